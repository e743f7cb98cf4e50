{{/* The head of a NetworkPolicy: dict root, component, name. */}}
{{- define "fleetwake.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "fleetwake.labels" . | nindent 4 }}
{{- end -}}

{{/* Egress rules to the targets of networkPolicy: dict root, targets. */}}
{{- define "fleetwake.egress" -}}
{{- range $target := .targets }}
{{- $to := index $.root.Values.networkPolicy $target | required (printf "networkPolicy says nothing of %s" $target) }}
# {{ $target }}
- ports:
  {{- range $to.ports }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
  {{- if $to.peers }}
  to: {{- toYaml $to.peers | nindent 2 }}
  {{- else if $to.cidrs }}
  to:
  {{- range $to.cidrs }}
  - ipBlock: {cidr: {{ . }}}
  {{- end }}
  {{- end }}
{{- end }}
{{- end -}}
