"""Go's text/template in Python, and the functions that templates of a ClusterClass have beside Go's own.

``go_reading`` reads a template, ``go_template`` executes it, ``go_format`` prints and compares as Go does; ``sprig`` collects the functions.
"""
