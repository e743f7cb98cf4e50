{{/* The first part of every name: the release's, which is fleetwake by default. */}}
{{- define "fleetwake.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of an object of one component (a service, or a part such as prepare): dict root, component. */}}
{{- define "fleetwake.labels" -}}
{{ include "fleetwake.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end -}}

{{/* What selects the pods of a component: dict root, component. */}}
{{- define "fleetwake.selector" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: fleetwake
{{- end -}}

{{- define "fleetwake.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The names of the services that exist, in order, as JSON: {"names": […]}. */}}
{{- define "fleetwake.services" -}}
{{- $names := list -}}
{{- range $name, $service := .Values.services -}}
{{- if and $service.command (ne $service.enabled false) -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- dict "names" (sortAlpha $names) | toJson -}}
{{- end -}}

{{/* The Lease that watchers of the same topics and scope compete for: fleetwake's lease_name (services/watcher/app.py), which a test compares. */}}
{{- define "fleetwake.lease" -}}
{{- $scope := printf "%s\x00%s\x00%s" .Values.settings.common.topic_prefix .Values.settings.common.namespace .Values.settings.common.watch_filter -}}
{{- if eq $scope "capi\x00\x00" -}}fleetwake-watcher{{- else -}}fleetwake-watcher-{{ sha256sum $scope | trunc 8 }}{{- end -}}
{{- end -}}

{{/* A Kafka user, and the Secret with its client certificate: dict root, user. */}}
{{- define "fleetwake.kafkaUser" -}}
{{ include "fleetwake.name" .root }}-{{ .user }}
{{- end -}}
