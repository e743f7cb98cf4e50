{{/* The rules of access/rbac.yaml as RBAC has them: dict root, entries. */}}
{{- define "fleetwake.rules" -}}
{{- $certificates := .root.Values.services.admission.webhooks.certificates }}
{{- $autoscalers := (index .root.Values.services "autoscaler-bridge").grpc.certificates }}
{{- range .entries }}
{{- if and (or (not .admission) $.root.Values.rbac.enforcedOwnerReferences) (or (not .certificates) (eq .certificates $certificates)) (or (not .autoscalerCertificates) (eq .autoscalerCertificates $autoscalers)) }}
- apiGroups: {{ toJson .groups }}
  resources: {{ toJson .resources }}
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: {{ toJson .verbs }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A binding of a component's account: dict root, component, kind (ClusterRoleBinding or RoleBinding), namespace, role, roleKind. */}}
{{- define "fleetwake.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .role }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- include "fleetwake.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .roleKind }}
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: {{ include "fleetwake.name" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}
