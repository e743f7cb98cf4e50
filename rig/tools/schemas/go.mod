// Nothing is built of this: it names the modules that publish the definitions of kinds which deploy/k8s uses (fleetwake.rig.tools.module_dir).
module fleetwake.dev/rig/tools/schemas

go 1.26

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
