package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/clientcmd"
)

const group = "cluster.x-k8s.io"

func managementConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "cluster-autoscaler"
	return config, nil
}

func preferredVersion(client discovery.DiscoveryInterface) (string, error) {
	found, err := client.ServerGroups()
	if err != nil {
		return "", err
	}
	for _, one := range found.Groups {
		if one.Name == group {
			return one.PreferredVersion.Version, nil
		}
	}
	return "", fmt.Errorf("no API group %s", group)
}

// Sets the size of a group through its scale subresource, found by discovery; answers with the size that it had.
func setScale(ctx context.Context, arguments []string) (any, error) {
	config, err := managementConfig(arguments[0])
	if err != nil {
		return nil, err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	version, err := preferredVersion(client)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	scales, err := scale.NewForConfig(config, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(client))
	if err != nil {
		return nil, err
	}
	replicas, err := strconv.Atoi(arguments[3])
	if err != nil {
		return nil, err
	}
	namespace, name := pair(arguments[2])
	resource := schema.GroupVersionResource{Group: group, Version: version, Resource: strings.ToLower(arguments[1]) + "s"}
	before, err := scales.Scales(namespace).Get(ctx, resource.GroupResource(), name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]int{"replicas": replicas}})
	if err != nil {
		return nil, err
	}
	_, err = scales.Scales(namespace).Patch(ctx, resource, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return map[string]any{"version": version, "before": before.Spec.Replicas, "selector": before.Status.Selector}, err
}

// Marks the Machine that is to go first, by writing it whole as it was read.
func mark(ctx context.Context, arguments []string) (any, error) {
	config, err := managementConfig(arguments[0])
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	version, err := preferredVersion(found)
	if err != nil {
		return nil, err
	}
	namespace, name := pair(arguments[1])
	machines := client.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: "machines"}).Namespace(namespace)
	machine, err := machines.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	annotations := machine.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[group+"/delete-machine"] = time.Now().String()
	machine.SetAnnotations(annotations)
	_, err = machines.Update(ctx, machine, metav1.UpdateOptions{})
	return map[string]string{}, err
}
