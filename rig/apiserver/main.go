// Command apiserver is the Kubernetes API of the rig in one process: an embedded etcd, the full kube-apiserver and the three
// controllers of kube-controller-manager that matter where no pod runs. All state lies in one folder, so a killed process started
// again with the same flags serves the same objects on the same port.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"fleetwake.dev/rig/apiserver/boot"
)

func main() {
	server := boot.Start(boot.ParseFlags())
	command := app.NewAPIServerCommand()
	command.SetArgs(server.Args())
	os.Exit(cli.Run(command))
}
