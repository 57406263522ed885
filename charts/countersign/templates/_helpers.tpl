{{- define "countersign.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that names made from it have at most 63 characters. */}}
{{- define "countersign.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "countersign.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Name of what belongs to the cluster: two releases never share one (CHT-13). */}}
{{- define "countersign.clusterName" -}}
{{- printf "%s-%s" (include "countersign.fullname" .) (include "countersign.namespace" .) }}
{{- end }}

{{- define "countersign.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "countersign.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Immutable once installed, so nothing that users may change. */}}
{{- define "countersign.selectorLabels" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "countersign.objectLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: countersign
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "countersign.labels" -}}
{{ include "countersign.objectLabels" . }}
app.kubernetes.io/component: webhook
{{- end }}

{{/* The digest wins, and the tag stays for people to read. */}}
{{- define "countersign.image" -}}
{{- $image := .Values.image }}
{{- $registry := default $image.registry .Values.global.imageRegistry }}
{{- $name := $image.repository }}
{{- with $registry }}{{ $name = printf "%s/%s" . $image.repository }}{{ end }}
{{- $name = printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}
{{- with $image.digest }}{{ $name = printf "%s@%s" $name . }}{{ end }}
{{- $name }}
{{- end }}

{{- define "countersign.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
- name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* How many replicas there are at least. */}}
{{- define "countersign.fewestReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{/* Secret with the serving certificate, where it is not the webhook's own. */}}
{{- define "countersign.certificateSecret" -}}
{{- if eq .Values.certificates.mode "provided" }}
{{- required "certificates.provided.secretName: name the Secret with your certificate" .Values.certificates.provided.secretName }}
{{- else }}
{{- printf "%s-tls" (include "countersign.fullname" .) }}
{{- end }}
{{- end }}

{{/* Names of the certificate, for the chart's own Certificate. */}}
{{- define "countersign.certificateNames" -}}
{{- $service := include "countersign.fullname" . }}
{{- $namespace := include "countersign.namespace" . }}
- {{ printf "%s.%s.svc" $service $namespace }}
- {{ printf "%s.%s" $service $namespace }}
- {{ $service }}
{{- range .Values.certificates.extraNames }}
- {{ . }}
{{- end }}
{{- end }}

{{/* The token, which the service account does not mount by itself (CHT-10). */}}
{{- define "countersign.tokenVolume" -}}
name: token
projected:
  sources:
  - serviceAccountToken:
      path: token
      expirationSeconds: 3600
  - configMap:
      name: kube-root-ca.crt
      items:
      - key: ca.crt
        path: ca.crt
  - downwardAPI:
      items:
      - path: namespace
        fieldRef:
          apiVersion: v1 # the default, which others who apply this must say (KUS-05)
          fieldPath: metadata.namespace
{{- end }}

{{- define "countersign.tokenMount" -}}
name: token
mountPath: /var/run/secrets/kubernetes.io/serviceaccount
readOnly: true
{{- end }}

{{/* A Pod that calls every entry of the registration as the API server does: by the Service's name, with the registered
authority. */}}
{{- define "countersign.probePod" -}}
restartPolicy: Never
activeDeadlineSeconds: 120
serviceAccountName: {{ include "countersign.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "countersign.imagePullSecrets" . }}
{{- . | nindent 0 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
containers:
- name: probe
  image: {{ include "countersign.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [probe, "--webhook-configuration={{ include "countersign.clusterName" . }}", --wait=1m]
  resources:
    requests:
      cpu: 10m
      memory: 32Mi
    limits:
      memory: 128Mi
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
  - {{ include "countersign.tokenMount" . | nindent 4 | trim }}
volumes:
- {{ include "countersign.tokenVolume" . | nindent 2 | trim }}
{{- end }}
