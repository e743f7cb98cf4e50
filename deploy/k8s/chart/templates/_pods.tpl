{{/* What keeps a pod within the Pod Security Standard "restricted", and its file system as the image has it. */}}
{{- define "fleetwake.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fleetwake.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Which nodes pods may go to, and before whom: dict root. */}}
{{- define "fleetwake.scheduling" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
priorityClassName: {{ .root.Values.priorityClass.name }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How pods of a component keep apart: dict root, component. */}}
{{- define "fleetwake.spread" -}}
topologySpreadConstraints:
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: {{ .root.Values.topologySpread.nodes }}
  labelSelector:
    matchLabels: {{- include "fleetwake.selector" . | nindent 6 }}
- topologyKey: topology.kubernetes.io/zone
  maxSkew: 1
  whenUnsatisfiable: {{ .root.Values.topologySpread.zones }}
  labelSelector:
    matchLabels: {{- include "fleetwake.selector" . | nindent 6 }}
{{- end -}}

{{/* Settings of a container: dict root, groups. The instance is the pod's name: stable for a StatefulSet's. */}}
{{- define "fleetwake.environment" -}}
envFrom:
{{- range .groups }}
- configMapRef: {name: {{ include "fleetwake.name" $.root }}-settings-{{ . }}}
{{- end }}
env:
- name: FLEETWAKE_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: FLEETWAKE_SYSTEM_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: FLEETWAKE_CONFIG_DIR, value: /tmp/fleetwake}
- {name: FLEETWAKE_DATA_DIR, value: /var/lib/fleetwake}
- {name: FLEETWAKE_WEB_PORT, value: "8080"}
{{- end -}}

{{/* Volumes of every pod of ours. Only what talks to the API server mounts the account's token. */}}
{{- define "fleetwake.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: account
  projected:
    defaultMode: 0440
    sources:
    # short-lived, renewed by the kubelet, read again every minute
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
{{- end -}}

{{/* The files of a Kafka user: dict root, user. */}}
{{- define "fleetwake.kafkaVolume" -}}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
    # certificate and key of the Kafka user, and the brokers' CA; not there without TLS
    - secret: {name: {{ include "fleetwake.kafkaUser" . }}, optional: true}
    - secret: {name: {{ .root.Values.kafka.strimzi.cluster }}-cluster-ca-cert, optional: true, items: [{key: ca.crt, path: cluster-ca.crt}]}
{{- end -}}

{{- define "fleetwake.accountMount" -}}
- {name: account, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- define "fleetwake.kafkaMount" -}}
- {name: kafka, mountPath: /etc/fleetwake/kafka, readOnly: true}
{{- end -}}
