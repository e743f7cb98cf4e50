"""What a ClusterClass means, for who reconciles it and for who admits it: its variables and their schemas, its patches, its templates, the way of an upgrade.

Pure, and no reconciler: ``blueprint`` holds a class with its templates; ``variables`` (by ``schema``, ``formats``, ``rules``) completes and judges the
values of a Cluster, ``class_variables`` and ``class_patches`` (by ``selectors``, ``json_patch``) the class itself; ``upgrade_plan`` lists the versions of
an upgrade.

Source: kinds.md §10; contracts.md §11.
"""
