"""ClusterClass: the variables Clusters may set, and the templates that belong to the class.

``references`` decides about the templates (owner, version), ``variables`` about definitions, ``decide`` puts both into a plan.

Source: kinds.md §10.5.
"""
