package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

// What cluster-autoscaler asks with unless told otherwise, and what it has to be told (--kube-api-content-type) of a server that takes no other bodies.
const (
	protobuf = "application/vnd.kubernetes.protobuf"
	plain    = "application/json"
)

func workloadClient(kubeconfig, contentType string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.ContentType, config.UserAgent = contentType, "cluster-autoscaler"
	return kubernetes.NewForConfig(config)
}

func pair(text string) (string, string) {
	namespace, name, _ := strings.Cut(text, "/")
	return namespace, name
}

// Every informer that a scheduler with default plugins registers, and those of cluster-autoscaler's own listers.
func started(ctx context.Context, kubeconfig string) (*scheduler.Scheduler, informers.SharedInformerFactory, map[string]bool, error) {
	client, err := workloadClient(kubeconfig, protobuf)
	if err != nil {
		return nil, nil, nil, err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	factory.Policy().V1().PodDisruptionBudgets().Informer()
	factory.Apps().V1().DaemonSets().Informer()
	factory.Apps().V1().ReplicaSets().Informer()
	factory.Apps().V1().StatefulSets().Informer()
	factory.Batch().V1().Jobs().Informer()
	factory.Core().V1().ReplicationControllers().Informer()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	found, err := scheduler.New(ctx, client, factory, nil, profile.NewRecorderFactory(broadcaster))
	if err != nil {
		return nil, nil, nil, err
	}
	factory.Start(ctx.Done())
	waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	synced := map[string]bool{}
	for kind, is := range factory.WaitForCacheSync(waiting.Done()) {
		synced[kind.String()] = is
	}
	return found, factory, synced, nil
}

func informersSync(ctx context.Context, arguments []string) (any, error) {
	_, _, synced, err := started(ctx, arguments[0])
	return synced, err
}

// Whether a pod of the cluster fits on Nodes that are not there, by the scheduler's filters: empty, or what refuses it.
func fits(ctx context.Context, arguments []string) (any, error) {
	var encoded map[string]string
	if err := json.Unmarshal([]byte(arguments[2]), &encoded); err != nil {
		return nil, err
	}
	found, factory, synced, err := started(ctx, arguments[0])
	if err != nil {
		return nil, err
	}
	for kind, is := range synced {
		if !is {
			return nil, fmt.Errorf("%s never synced", kind)
		}
	}
	namespace, name := pair(arguments[1])
	pod, err := factory.Core().V1().Pods().Lister().Pods(namespace).Get(name)
	if err != nil {
		return nil, err
	}
	plugins, answer := found.Profiles[corev1.DefaultSchedulerName], map[string]string{}
	for group, text := range encoded {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, err
		}
		node := &corev1.Node{}
		if err := node.Unmarshal(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", group, err)
		}
		info, state := framework.NewNodeInfo(), framework.NewCycleState()
		info.SetNode(node)
		if _, status, _ := plugins.RunPreFilterPlugins(ctx, state, pod); !status.IsSuccess() {
			answer[group] = status.Message()
			continue
		}
		answer[group] = plugins.RunFilterPlugins(ctx, state, pod, info).Message()
	}
	return answer, nil
}

// The writes of a loop that scales up and down: lease, event, status, taint of a Node, eviction of a pod. By their names: empty, or the error.
func writes(ctx context.Context, arguments []string) (any, error) {
	client, err := workloadClient(arguments[0], plain)
	if err != nil {
		return nil, err
	}
	core, node := client.CoreV1(), arguments[1]
	namespace, name := pair(arguments[2])
	errors := map[string]error{}

	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: "cluster-autoscaler", Namespace: "kube-system"},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: "me"},
	}
	held := resourcelock.LeaderElectionRecord{HolderIdentity: "me", LeaseDurationSeconds: 15, AcquireTime: metav1.Now(), RenewTime: metav1.Now()}
	if errors["lease"] = lock.Create(ctx, held); errors["lease"] == nil {
		errors["lease renewed"] = lock.Update(ctx, held)
	}
	status := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cluster-autoscaler-status", Namespace: "kube-system"}, Data: map[string]string{"status": "a"}}
	made, err := core.ConfigMaps("kube-system").Create(ctx, status, metav1.CreateOptions{})
	if errors["status"] = err; err == nil {
		made.Data["status"] = "b"
		_, errors["status updated"] = core.ConfigMaps("kube-system").Update(ctx, made, metav1.UpdateOptions{})
	}
	errors["event"] = recorded(ctx, client, namespace, name)
	errors["taint"] = tainted(ctx, core, node)
	grace := int64(0)
	eviction := &policyv1beta1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: name},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &grace},
	}
	errors["eviction"] = core.Pods(namespace).Evict(ctx, eviction)
	answer := map[string]string{}
	for what, err := range errors {
		answer[what] = ""
		if err != nil {
			answer[what] = err.Error()
		}
	}
	return answer, nil
}

func recorded(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "cluster-autoscaler"})
	recorder.Event(pod, corev1.EventTypeNormal, "TriggeredScaleUp", "pod triggered scale-up")
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		found, err := client.CoreV1().Events(namespace).List(waiting, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=TriggeredScaleUp"})
		if err != nil || len(found.Items) > 0 {
			return err
		}
		select {
		case <-waiting.Done():
			return fmt.Errorf("no event of it was stored")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func tainted(ctx context.Context, core typedcorev1.CoreV1Interface, name string) error {
	node, err := core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: "ToBeDeletedByClusterAutoscaler", Value: "1", Effect: corev1.TaintEffectNoSchedule})
	_, err = core.Nodes().Update(ctx, node, metav1.UpdateOptions{})
	return err
}

// Puts a pod on a Node, as a scheduler does.
func bind(ctx context.Context, arguments []string) (any, error) {
	client, err := workloadClient(arguments[0], plain)
	if err != nil {
		return nil, err
	}
	namespace, name := pair(arguments[1])
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: arguments[2]}}
	return map[string]string{}, client.CoreV1().Pods(namespace).Bind(ctx, binding, metav1.CreateOptions{})
}
