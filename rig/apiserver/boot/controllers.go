package boot

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
)

const (
	readyPause = 20 * time.Millisecond
	// How soon the garbage collector notices a kind that a new CRD serves; kube-controller-manager takes 30 s.
	collectorSyncPeriod = 5 * time.Second
	collectorWorkers    = 20
	collectorSyncLimit  = 30 * time.Second
	namespaceResync     = 5 * time.Minute
	namespaceWorkers    = 10
	aggregationWorkers  = 5
)

// afterReady waits until the API answers, says so and runs the controllers until the process ends.
func (s *Server) afterReady() {
	s.awaitReady()
	ctx := context.Background()
	s.announce()
	s.runAggregation(ctx)
	s.runNamespaces(ctx)
	s.runCollector(ctx)
}

func (s *Server) awaitReady() {
	// the answer's status is all that is read, and the server is this process
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for {
		response, err := client.Get(s.url + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(readyPause)
	}
}

func (s *Server) client(kubeconfig string) *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.options.Dir, kubeconfig))
	must(err)
	config.QPS = -1
	return config
}

func (s *Server) runAggregation(ctx context.Context) {
	client := kubernetes.NewForConfigOrDie(s.client("pki/kubeconfig-clusterrole-aggregation-controller"))
	shared := informers.NewSharedInformerFactory(client, 0)
	aggregation := clusterroleaggregation.NewClusterRoleAggregation(shared.Rbac().V1().ClusterRoles(), client.RbacV1())
	shared.Start(ctx.Done())
	go aggregation.Run(ctx, aggregationWorkers)
}

func (s *Server) runNamespaces(ctx context.Context) {
	config := s.client("pki/kubeconfig-namespace-controller")
	client := kubernetes.NewForConfigOrDie(config)
	objects := metadata.NewForConfigOrDie(config)
	shared := informers.NewSharedInformerFactory(client, 0)
	resources := client.Discovery().ServerPreferredNamespacedResources
	deletion := namespace.NewNamespaceController(ctx, client, objects, resources, shared.Core().V1().Namespaces(), namespaceResync, corev1.FinalizerKubernetes)
	shared.Start(ctx.Done())
	go deletion.Run(ctx, namespaceWorkers)
}

func (s *Server) runCollector(ctx context.Context) {
	config := s.client("pki/kubeconfig-generic-garbage-collector")
	client := kubernetes.NewForConfigOrDie(config)
	objects := metadata.NewForConfigOrDie(config)
	resources := discovery.NewDiscoveryClientForConfigOrDie(config)
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(resources))
	shared, metadataShared := informers.NewSharedInformerFactory(client, 0), metadatainformer.NewSharedInformerFactory(objects, 0)
	ignored := map[schema.GroupResource]struct{}{}
	for resource := range garbagecollector.DefaultIgnoredResources() {
		ignored[resource] = struct{}{}
	}
	started := make(chan struct{})
	factory := informerfactory.NewInformerFactory(shared, metadataShared)
	collector, err := garbagecollector.NewGarbageCollector(ctx, client, objects, mapper, ignored, factory, started)
	must(err)
	shared.Start(ctx.Done())
	metadataShared.Start(ctx.Done())
	close(started)
	go collector.Run(ctx, collectorWorkers, collectorSyncLimit)
	collector.Sync(ctx, resources, collectorSyncPeriod)
}
