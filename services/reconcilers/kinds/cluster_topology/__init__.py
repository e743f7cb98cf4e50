"""Cluster topology: what a Cluster's topology and its ClusterClass ask for, as objects.

``variables`` (by ``schema``, ``formats``, ``rules``) completes and judges the values; ``blueprint`` holds the class with its templates, ``current`` what
exists; ``upgrade_plan`` and ``versions`` decide which version each part has now; ``control_plane`` and ``workers`` make the objects (by ``objects``
and ``health_checks``), ``patches`` (by ``builtins``, ``selectors``, ``values``, ``json_patch``) changes them; ``desired`` puts these together;
``rotation`` tells what of it must be written; ``condition`` tells people; ``decide`` orders all of it.

Source: kinds.md §10.
"""
