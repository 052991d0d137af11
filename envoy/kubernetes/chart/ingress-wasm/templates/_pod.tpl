{{- define "ingress-wasm.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ingress-wasm.args" -}}
{{- $controller := .Values.controller -}}
{{- $mesh := include "ingress-wasm.mesh" . -}}
- controller
{{- if not $mesh }}
- --run-dir=/run/ingress-wasm
{{- end }}
- --controller-class={{ $controller.ingressClassResource.controllerValue }}
- --ingress-class={{ $controller.ingressClass }}
{{- if $controller.ingressClassByName }}
- --ingress-class-by-name
{{- end }}
{{- if $controller.watchIngressWithoutClass }}
- --watch-ingress-without-class
{{- end }}
- --configmap={{ include "ingress-wasm.configMap" . }}
- --election-id={{ include "ingress-wasm.electionID" . }}
{{- with $controller.electionTTL }}
- --election-ttl={{ . }}
{{- end }}
{{- if $controller.scope.enabled }}
- --watch-namespace={{ default (include "ingress-wasm.namespace" .) $controller.scope.namespace }}
{{- else if $controller.scope.namespaceSelector }}
- --watch-namespace-selector={{ $controller.scope.namespaceSelector }}
{{- end }}
{{- if hasKey $controller.extraArgs "publish-status-address" }}
{{- else if include "ingress-wasm.publishService" . }}
- --publish-service={{ include "ingress-wasm.publishService" . }}
{{- else if $mesh }}
- --update-status=false
{{- else if $controller.reportNodeInternalIp }}
- --report-node-internal-ip-address
{{- end }}
{{- if $mesh }}
{{- with $controller.istio }}
- --output=istio
- --istio-namespace={{ .namespace }}
- --istio-name={{ default (include "ingress-wasm.fullname" $) .name }}
{{- range $name, $value := .selector }}
- --istio-selector={{ $name }}={{ $value }}
{{- end }}
{{- if not .copySecrets }}
- --istio-copy-secrets=false
{{- end }}
{{- with .module }}
- --istio-module={{ . }}
{{- end }}
{{- with .moduleSha256 }}
- --istio-module-sha256={{ . }}
{{- end }}
{{- end }}
{{- else }}
- --http-port={{ include "ingress-wasm.port.http" . }}
- --https-port={{ include "ingress-wasm.port.https" . }}
{{- end }}
- --healthz-port={{ $controller.metrics.port }}
{{- with $controller.healthCheckHost }}
- --healthz-host={{ . }}
{{- end }}
{{- if $controller.admissionWebhooks.enabled }}
- --validating-webhook=:{{ $controller.admissionWebhooks.port }}
- --validating-webhook-secret={{ include "ingress-wasm.admission" . }}
- --validating-webhook-service={{ include "ingress-wasm.admission" . }}
- --validating-webhook-configuration={{ include "ingress-wasm.admission" . }}
{{- end }}
{{- if not $mesh }}
- --shutdown-grace-period={{ $controller.shutdownGracePeriod }}
- --drain-timeout={{ $controller.drainTimeout }}
{{- if $controller.accessLog }}
- --access-log=/dev/stdout
{{- end }}
{{- end }}
- --log-format={{ $controller.logFormat }}
- --log-level={{ $controller.logLevel }}
{{- range $name, $value := $controller.extraArgs }}
{{- if eq (toString $value) "" }}
- --{{ $name }}
{{- else }}
- {{ printf "--%s=%s" $name (toString $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The pod of Deployment and DaemonSet. */}}
{{- define "ingress-wasm.pod" -}}
{{- $controller := .Values.controller -}}
{{- $root := include "ingress-wasm.asRoot" . -}}
{{- $mesh := include "ingress-wasm.mesh" . -}}
{{- if and $mesh (or $controller.hostNetwork $controller.hostPort.enabled (eq $controller.kind "DaemonSet")) }}
{{- fail "controller.output istio has no ports of its own: it excludes hostNetwork, hostPort and the kind DaemonSet" }}
{{- end -}}
{{- if le (int $controller.terminationGracePeriodSeconds) (int (add $controller.shutdownGracePeriod $controller.drainTimeout)) }}
{{- fail "controller.terminationGracePeriodSeconds has to be greater than shutdownGracePeriod and drainTimeout together: the pod would be killed while requests are under way" }}
{{- end -}}
metadata:
  {{- with $controller.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- include "ingress-wasm.labels" . | nindent 4 }}
    {{- with $controller.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "ingress-wasm.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  terminationGracePeriodSeconds: {{ empty $mesh | ternary $controller.terminationGracePeriodSeconds 60 }}
  enableServiceLinks: false
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  dnsPolicy: {{ default ($controller.hostNetwork | ternary "ClusterFirstWithHostNet" "ClusterFirst") $controller.dnsPolicy }}
  {{- with $controller.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $controller.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $controller.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- if $controller.podSecurityContext }}
    {{- toYaml $controller.podSecurityContext | nindent 4 }}
    {{- else }}
    {{- if not $mesh }}
    # All containers have the same user: they share Unix sockets.
    {{- end }}
    {{- if $root }}
    runAsUser: 0
    runAsGroup: 0
    {{- else }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    {{- end }}
    seccompProfile:
      type: RuntimeDefault
    {{- $sysctls := $controller.sysctls }}
    {{- if and (include "ingress-wasm.lowPorts" .) (not $controller.hostNetwork) }}
    {{- $sysctls = merge (dict) $sysctls (dict "net.ipv4.ip_unprivileged_port_start" "0") }}
    {{- end }}
    {{- with $sysctls }}
    sysctls:
      {{- range $name, $value := . }}
      - name: {{ $name }}
        value: {{ $value | quote }}
      {{- end }}
    {{- end }}
    {{- end }}
  {{- if or (not $mesh) $controller.extraInitContainers }}
  initContainers:
    {{- with $controller.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if not $mesh }}
    # Writes what Envoy is started with.
    - name: bootstrap
      image: {{ include "ingress-wasm.image" (dict "image" $controller.image "tag" .Chart.AppVersion) }}
      imagePullPolicy: {{ $controller.image.pullPolicy }}
      args: [bootstrap, --run-dir=/run/ingress-wasm]
      securityContext:
        {{- $controller.containerSecurityContext | default (include "ingress-wasm.containerSecurityContext" . | fromYaml) | toYaml | nindent 8 }}
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
      volumeMounts:
        - name: run
          mountPath: /run/ingress-wasm
    # A sidecar: it ends after the controller, which has it drained first.
    - name: envoy
      restartPolicy: Always
      image: {{ include "ingress-wasm.image" (dict "image" $controller.envoy.image "tag" "") }}
      imagePullPolicy: {{ $controller.envoy.image.pullPolicy }}
      command: [/usr/local/bin/envoy]
      args:
        - --config-path
        - /run/ingress-wasm/bootstrap.json
        - --disable-hot-restart
        - --log-level
        - {{ $controller.envoy.logLevel }}
        {{- with $controller.envoy.concurrency }}
        - --concurrency
        - {{ . | quote }}
        {{- end }}
        {{- with $controller.envoy.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      securityContext:
        {{- if $controller.envoy.containerSecurityContext }}
        {{- toYaml $controller.envoy.containerSecurityContext | nindent 8 }}
        {{- else }}
        {{- include "ingress-wasm.containerSecurityContext" . | nindent 8 }}
          {{- if $root }}
          add: [NET_BIND_SERVICE]
          {{- end }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ include "ingress-wasm.port.http" . }}
          protocol: TCP
          {{- if or $controller.hostPort.enabled $controller.hostNetwork }}
          hostPort: {{ $controller.hostPort.ports.http }}
          {{- end }}
        - name: https
          containerPort: {{ include "ingress-wasm.port.https" . }}
          protocol: TCP
          {{- if or $controller.hostPort.enabled $controller.hostNetwork }}
          hostPort: {{ $controller.hostPort.ports.https }}
          {{- end }}
      {{- with $controller.envoy.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: run
          mountPath: /run/ingress-wasm
    {{- end }}
  {{- end }}
  containers:
    - name: {{ $controller.containerName }}
      image: {{ include "ingress-wasm.image" (dict "image" $controller.image "tag" .Chart.AppVersion) }}
      imagePullPolicy: {{ $controller.image.pullPolicy }}
      args:
        {{- include "ingress-wasm.args" . | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- with $controller.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      securityContext:
        {{- $controller.containerSecurityContext | default (include "ingress-wasm.containerSecurityContext" . | fromYaml) | toYaml | nindent 8 }}
      ports:
        - name: healthz
          containerPort: {{ $controller.metrics.port }}
          protocol: TCP
        {{- if $controller.admissionWebhooks.enabled }}
        - name: webhook
          containerPort: {{ $controller.admissionWebhooks.port }}
          protocol: TCP
        {{- end }}
      {{- with $controller.startupProbe }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      livenessProbe:
        {{- toYaml $controller.livenessProbe | nindent 8 }}
      readinessProbe:
        {{- toYaml $controller.readinessProbe | nindent 8 }}
      {{- with $controller.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or (not $mesh) $controller.extraVolumeMounts }}
      volumeMounts:
        {{- if not $mesh }}
        - name: run
          mountPath: /run/ingress-wasm
        {{- end }}
        {{- with $controller.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    {{- with $controller.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or (not $mesh) $controller.extraVolumes }}
  volumes:
    {{- if not $mesh }}
    # In memory, since it holds the key of the self-signed certificate.
    - name: run
      emptyDir:
        medium: Memory
        sizeLimit: 64Mi
    {{- end }}
    {{- with $controller.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
