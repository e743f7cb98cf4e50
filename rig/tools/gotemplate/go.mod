module fleetwake.dev/rig/tools/gotemplate

go 1.26.0
