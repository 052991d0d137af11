{{- define "ingress-wasm.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ingress-wasm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ingress-wasm.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/* The name of controller, Service and ConfigMap. */}}
{{- define "ingress-wasm.controller" -}}
{{- printf "%s-%s" (include "ingress-wasm.fullname" .) .Values.controller.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ingress-wasm.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ingress-wasm.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ingress-wasm.selector" -}}
app.kubernetes.io/name: {{ include "ingress-wasm.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.controller.name }}
{{- end -}}

{{- define "ingress-wasm.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ingress-wasm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "ingress-wasm.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* REGISTRY/REPOSITORY:TAG@DIGEST of (dict "image" IMAGE "tag" DEFAULT). */}}
{{- define "ingress-wasm.image" -}}
{{- $image := .image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository }}:{{ default .tag $image.tag -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "ingress-wasm.configMap" -}}
{{- default (printf "%s/%s" (include "ingress-wasm.namespace" .) (include "ingress-wasm.controller" .)) .Values.controller.existingConfigMap -}}
{{- end -}}

{{/* "true" where objects are written for the gateway of a mesh. */}}
{{- define "ingress-wasm.mesh" -}}
{{- if eq .Values.controller.output "istio" -}}true{{- end -}}
{{- end -}}

{{/* The Service whose addresses are the status of Ingresses. */}}
{{- define "ingress-wasm.publishService" -}}
{{- $controller := .Values.controller -}}
{{- if $controller.publishService.enabled -}}
{{- if $controller.publishService.pathOverride -}}
{{- $controller.publishService.pathOverride -}}
{{- else if include "ingress-wasm.mesh" . -}}
{{- printf "%s/%s" $controller.istio.namespace $controller.istio.service -}}
{{- else if $controller.service.enabled -}}
{{- printf "%s/%s" (include "ingress-wasm.namespace" .) (include "ingress-wasm.controller" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ingress-wasm.electionID" -}}
{{- default (printf "%s-leader" (include "ingress-wasm.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{/* The ports on which Envoy listens: in a node's network those of the node. */}}
{{- define "ingress-wasm.port.http" -}}
{{- if .Values.controller.hostNetwork -}}{{ .Values.controller.hostPort.ports.http }}{{- else -}}{{ .Values.controller.containerPort.http }}{{- end -}}
{{- end -}}
{{- define "ingress-wasm.port.https" -}}
{{- if .Values.controller.hostNetwork -}}{{ .Values.controller.hostPort.ports.https }}{{- else -}}{{ .Values.controller.containerPort.https }}{{- end -}}
{{- end -}}

{{/* "true" where a port needs a privilege. */}}
{{- define "ingress-wasm.lowPorts" -}}
{{- if include "ingress-wasm.mesh" . -}}
{{- else if or (lt (int (include "ingress-wasm.port.http" .)) 1024) (lt (int (include "ingress-wasm.port.https" .)) 1024) -}}true{{- end -}}
{{- end -}}
{{- define "ingress-wasm.asRoot" -}}
{{- if .Values.controller.hostNetwork -}}{{ include "ingress-wasm.lowPorts" . }}{{- end -}}
{{- end -}}

{{/* Rights in the namespaces that are served. */}}
{{- define "ingress-wasm.rules.served" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{ include "ingress-wasm.rules.named" . }}
{{- end -}}

{{/* Rights where single objects are named: the namespaces that are served, and the controller's own. */}}
{{- define "ingress-wasm.rules.named" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [secrets]
  verbs: {{ .Values.rbac.watchSecrets | ternary "[get, list, watch]" "[get]" }}
{{- end -}}

{{- define "ingress-wasm.admission" -}}
{{- printf "%s-admission" (include "ingress-wasm.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
