// Command control-plane is etcd, kube-apiserver and kube-controller-manager in one program; the first argument says which it is. They are the programs of
// the images that deploy/compose names, at the same versions, so that their command lines there can be run without containers.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fail("say which: etcd, kube-apiserver or kube-controller-manager")
	}
	name, arguments := os.Args[1], os.Args[2:]
	os.Args = append([]string{name}, arguments...)
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand(), arguments)
	case "kube-controller-manager":
		run(manager.NewControllerManagerCommand(), arguments)
	default:
		fail(name + " is none of etcd, kube-apiserver and kube-controller-manager")
	}
}

func run(command *cobra.Command, arguments []string) {
	command.SetArgs(arguments)
	os.Exit(cli.Run(command))
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "control-plane:", why)
	os.Exit(2)
}
