{{/* The rules of access/rbac.yaml as RBAC has them: dict root, entries. */}}
{{- define "fleetwake.rules" -}}
{{- range .entries }}
{{- if or (not .admission) $.root.Values.rbac.enforcedOwnerReferences }}
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
