{{/* What every entry has. Takes the chart and the entry's path; gives the fields that are the same for all. */}}
{{- define "countersign.entry" -}}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
clientConfig:
  {{- /* With an authority of its own the webhook writes caBundle, and nobody else may (TLS-08). */}}
  {{- if eq .chart.Values.certificates.mode "provided" }}
  caBundle: {{ required "certificates.provided.caBundle: give the authority of your certificate" .chart.Values.certificates.provided.caBundle | b64enc }}
  {{- end }}
  {{- with .chart.Values.webhooks.url }}
  url: {{ printf "%s%s" . $.path }}
  {{- else }}
  service:
    name: {{ include "countersign.fullname" .chart }}
    namespace: {{ include "countersign.namespace" .chart }}
    path: {{ .path }}
    port: {{ .chart.Values.service.port }}
  {{- end }}
{{- end }}

{{/* Namespaces that no value can bring in: the webhook could not start while it is down, nor could the cluster (AVL-01, 02). */}}
{{- define "countersign.excluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
  {{- range concat (list (include "countersign.namespace" .)) (list "kube-system" "kube-public" "kube-node-lease") .Values.namespaceSelector.exclude | uniq }}
  - {{ . }}
  {{- end }}
{{- end }}

{{- define "countersign.enforced" -}}
matchExpressions:
{{ include "countersign.excluded" . }}
- key: countersign.dev/mode
  {{- if eq .Values.namespaceSelector.strategy "OptOut" }}
  operator: NotIn
  values: [audit, "off"]
  {{- else }}
  operator: In
  values: [enforce]
  {{- end }}
{{- end }}

{{- define "countersign.audited" -}}
matchExpressions:
{{ include "countersign.excluded" . }}
- key: countersign.dev/mode
  operator: In
  values: [audit]
{{- end }}

{{/* In audit mode nothing may be denied, even while the webhook is down. */}}
{{- define "countersign.failurePolicy" -}}
{{- if eq .chart.Values.mode "audit" }}Ignore{{ else }}{{ .policy }}{{ end }}
{{- end }}

{{- define "countersign.podRules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [pods]
  scope: Namespaced
- apiGroups: [""]
  apiVersions: [v1]
  operations: [UPDATE]
  resources: [pods/ephemeralcontainers]
  scope: Namespaced
{{- end }}

{{- define "countersign.workloadRules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [podtemplates, replicationcontrollers]
  scope: Namespaced
- apiGroups: [apps]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [deployments, replicasets, statefulsets, daemonsets]
  scope: Namespaced
- apiGroups: [batch]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [jobs, cronjobs]
  scope: Namespaced
{{- end }}

{{/* Expressions never fail: an error would deny under failurePolicy Fail (ADM-62). */}}
{{- define "countersign.podConditions" -}}
- name: not-a-kubelet # kubelets may make mirror Pods only
  expression: "!('system:nodes' in request.userInfo.?groups.orValue([]))"
- name: images-changed # other updates work even while the webhook is down
  expression: >-
    request.operation != 'UPDATE'
    || [[object, oldObject].map(pod, [
    pod.?spec.?containers.orValue([]).map(c, c.?name.orValue('') + ' ' + c.?image.orValue('')),
    pod.?spec.?initContainers.orValue([]).map(c, c.?name.orValue('') + ' ' + c.?image.orValue('')),
    pod.?spec.?ephemeralContainers.orValue([]).map(c, c.?name.orValue('') + ' ' + c.?image.orValue(''))
    ])].exists(pods, pods[0] != pods[1])
{{- with .Values.webhooks.matchConditions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A Pod's template is in one of three places. Image volumes of a template may change, those of a Pod may not. */}}
{{- define "countersign.workloadConditions" -}}
- name: images-changed
  expression: >-
    request.operation != 'UPDATE'
    || [[object, oldObject]
    .map(o, o.?spec.?template.?spec.or(o.?spec.?jobTemplate.?spec.?template.?spec).or(o.?template.?spec))
    .map(pod, [
    pod.?containers.orValue([]).map(c, c.?name.orValue('') + ' ' + c.?image.orValue('')),
    pod.?initContainers.orValue([]).map(c, c.?name.orValue('') + ' ' + c.?image.orValue('')),
    pod.?volumes.orValue([]).map(v, v.?name.orValue('') + ' ' + v.?image.?reference.orValue(''))
    ])].exists(pods, pods[0] != pods[1])
{{- with .Values.webhooks.matchConditions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "countersign.configurationMetadata" -}}
name: {{ include "countersign.clusterName" . }}
labels:
  {{- include "countersign.labels" . | nindent 2 }}
  {{- with .Values.webhooks.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := deepCopy .Values.webhooks.annotations }}
{{- if eq .Values.certificates.mode "certManager" }}
{{- $_ := set $annotations "cert-manager.io/inject-ca-from" (printf "%s/%s" (include "countersign.namespace" .) (include "countersign.certificateSecret" .)) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
