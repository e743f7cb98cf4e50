// conversion has Cluster API's own code convert objects between v1beta2 and v1beta1, or v1alpha1 where the kind says so: what ours is compared with.
//
// Every line of standard input is {"up": bool, "kind": string, "obj": object}; the line of the answer is the object in the other version, or {"error": string}.
// References get the versions that the first argument, a JSON object, has for their groups.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime/schema"

	addonsold "sigs.k8s.io/cluster-api/api/addons/v1beta1"
	addonshub "sigs.k8s.io/cluster-api/api/addons/v1beta2"
	bootstrapold "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta1"
	bootstraphub "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplaneold "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta1"
	controlplanehub "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	coreold "sigs.k8s.io/cluster-api/api/core/v1beta1"
	corehub "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ipamoldest "sigs.k8s.io/cluster-api/api/ipam/v1alpha1"
	ipamold "sigs.k8s.io/cluster-api/api/ipam/v1beta1"
	ipamhub "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	runtimeold "sigs.k8s.io/cluster-api/api/runtime/v1alpha1"
	runtimehub "sigs.k8s.io/cluster-api/api/runtime/v1beta2"
	bootstrap "sigs.k8s.io/cluster-api/bootstrap/kubeadm/webhooks/conversion"
	controlplane "sigs.k8s.io/cluster-api/controlplane/kubeadm/webhooks/conversion"
	core "sigs.k8s.io/cluster-api/core/webhooks/conversion"
)

type question struct {
	Up   bool            `json:"up"`
	Kind string          `json:"kind"`
	Obj  json.RawMessage `json:"obj"`
}

type converter func(question) ([]byte, error)

func kind[Old any, Hub any](up func(context.Context, *Old, *Hub) error, down func(context.Context, *Hub, *Old) error) converter {
	return func(asked question) ([]byte, error) {
		if asked.Up {
			return said(asked.Obj, up)
		}
		return said(asked.Obj, down)
	}
}

func said[From any, To any](text []byte, convert func(context.Context, *From, *To) error) ([]byte, error) {
	from, to := new(From), new(To)
	if err := json.Unmarshal(text, from); err != nil {
		return nil, err
	}
	if err := convert(context.Background(), from, to); err != nil {
		return nil, err
	}
	return json.Marshal(to)
}

var kinds = map[string]converter{
	"Cluster":            kind[coreold.Cluster, corehub.Cluster](core.ConvertClusterV1Beta1ToHub, core.ConvertClusterHubToV1Beta1),
	"ClusterClass":       kind[coreold.ClusterClass, corehub.ClusterClass](core.ConvertClusterClassV1Beta1ToHub, core.ConvertClusterClassHubToV1Beta1),
	"Machine":            kind[coreold.Machine, corehub.Machine](core.ConvertMachineV1Beta1ToHub, core.ConvertMachineHubToV1Beta1),
	"MachineSet":         kind[coreold.MachineSet, corehub.MachineSet](core.ConvertMachineSetV1Beta1ToHub, core.ConvertMachineSetHubToV1Beta1),
	"MachineDeployment":  kind[coreold.MachineDeployment, corehub.MachineDeployment](core.ConvertMachineDeploymentV1Beta1ToHub, core.ConvertMachineDeploymentHubToV1Beta1),
	"MachinePool":        kind[coreold.MachinePool, corehub.MachinePool](core.ConvertMachinePoolV1Beta1ToHub, core.ConvertMachinePoolHubToV1Beta1),
	"MachineHealthCheck": kind[coreold.MachineHealthCheck, corehub.MachineHealthCheck](core.ConvertMachineHealthCheckV1Beta1ToHub, core.ConvertMachineHealthCheckHubToV1Beta1),
	"MachineDrainRule":   kind[coreold.MachineDrainRule, corehub.MachineDrainRule](core.ConvertMachineDrainRuleV1Beta1ToHub, core.ConvertMachineDrainRuleHubToV1Beta1),
	"ClusterResourceSet": kind[addonsold.ClusterResourceSet, addonshub.ClusterResourceSet](core.ConvertClusterResourceSetV1Beta1ToHub, core.ConvertClusterResourceSetHubToV1Beta1),
	"ClusterResourceSetBinding": kind[addonsold.ClusterResourceSetBinding, addonshub.ClusterResourceSetBinding](
		core.ConvertClusterResourceSetBindingV1Beta1ToHub, core.ConvertClusterResourceSetBindingHubToV1Beta1),
	"IPAddress":               kind[ipamold.IPAddress, ipamhub.IPAddress](core.ConvertIPAddressV1Beta1ToHub, core.ConvertIPAddressHubToV1Beta1),
	"IPAddressClaim":          kind[ipamold.IPAddressClaim, ipamhub.IPAddressClaim](core.ConvertIPAddressClaimV1Beta1ToHub, core.ConvertIPAddressClaimHubToV1Beta1),
	"IPAddress v1alpha1":      kind[ipamoldest.IPAddress, ipamhub.IPAddress](core.ConvertIPAddressV1Alpha1ToHub, core.ConvertIPAddressHubToV1Alpha1),
	"IPAddressClaim v1alpha1": kind[ipamoldest.IPAddressClaim, ipamhub.IPAddressClaim](core.ConvertIPAddressClaimV1Alpha1ToHub, core.ConvertIPAddressClaimHubToV1Alpha1),
	"ExtensionConfig v1alpha1": kind[runtimeold.ExtensionConfig, runtimehub.ExtensionConfig](
		core.ConvertExtensionConfigV1Alpha1ToHub, core.ConvertExtensionConfigHubToV1Alpha1),
	"KubeadmConfig":      kind[bootstrapold.KubeadmConfig, bootstraphub.KubeadmConfig](bootstrap.ConvertKubeadmConfigV1Beta1ToHub, bootstrap.ConvertKubeadmConfigHubToV1Beta1),
	"KubeadmConfigTemplate": kind[bootstrapold.KubeadmConfigTemplate, bootstraphub.KubeadmConfigTemplate](
		bootstrap.ConvertKubeadmConfigTemplateV1Beta1ToHub, bootstrap.ConvertKubeadmConfigTemplateHubToV1Beta1),
	"KubeadmControlPlane": kind[controlplaneold.KubeadmControlPlane, controlplanehub.KubeadmControlPlane](
		controlplane.ConvertKubeadmControlPlaneV1Beta1ToHub, controlplane.ConvertKubeadmControlPlaneHubToV1Beta1),
	"KubeadmControlPlaneTemplate": kind[controlplaneold.KubeadmControlPlaneTemplate, controlplanehub.KubeadmControlPlaneTemplate](
		controlplane.ConvertKubeadmControlPlaneTemplateV1Beta1ToHub, controlplane.ConvertKubeadmControlPlaneTemplateHubToV1Beta1),
}

func main() {
	versions := map[string]string{}
	if err := json.Unmarshal([]byte(os.Args[1]), &versions); err != nil {
		panic(err)
	}
	version := func(_ context.Context, of schema.GroupKind) (string, error) {
		return schema.GroupVersion{Group: of.Group, Version: versions[of.Group]}.String(), nil
	}
	core.SetAPIVersionGetter(version)
	controlplane.SetAPIVersionGetter(version)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		answer, err := kinds[asked.Kind](asked)
		if err != nil {
			answer, _ = json.Marshal(map[string]string{"error": err.Error()})
		}
		fmt.Println(string(answer))
	}
}
