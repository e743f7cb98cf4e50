// Command autoscaler-clients does, one question at a time, what cluster-autoscaler does with the libraries that it is built on: client-go's informers, scale
// client and event recorder, the scheduler's framework, grpc-go and Kubernetes' own decoding of a Node. It decides nothing; tests say what to ask and what is
// to come out. Answers are JSON on standard output.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

const limit = 60 * time.Second

type command struct {
	arguments string
	count     int
	run       func(ctx context.Context, arguments []string) (any, error)
}

var commands = map[string]command{
	"informers": {"KUBECONFIG", 1, informersSync},
	"fits":      {"KUBECONFIG NAMESPACE/POD NODES (JSON: bytes of v1.Node by any name)", 3, fits},
	"writes":    {"KUBECONFIG NODE NAMESPACE/POD", 3, writes},
	"bind":      {"KUBECONFIG NAMESPACE/POD NODE", 3, bind},
	"scale":     {"KUBECONFIG KIND NAMESPACE/NAME REPLICAS", 4, setScale},
	"mark":      {"KUBECONFIG NAMESPACE/MACHINE", 2, mark},
	"call":      {"CLOUD-CONFIG DESCRIPTORS METHOD MESSAGE (JSON)", 4, call},
}

func main() {
	if len(os.Args) < 2 {
		fail("say what: informers, fits, writes, bind, scale, mark or call")
	}
	chosen, known := commands[os.Args[1]]
	if !known || len(os.Args) != chosen.count+2 {
		fail(fmt.Sprintf("usage: autoscaler-clients %s %s", os.Args[1], chosen.arguments))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	answer, err := chosen.run(ctx, os.Args[2:])
	if err != nil {
		fail(err.Error())
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "autoscaler-clients:", why)
	os.Exit(1)
}
