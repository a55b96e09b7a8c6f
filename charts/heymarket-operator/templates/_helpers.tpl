{{/*
Fills in the defaults of values that are null, which Helm removes, so that a blank `podLabels:` means the default, and removes names in a user's own maps, such as
labels, that a later values file sets to null. Each template that reads values begins with it. files/values.yaml is a copy of values.yaml, which templates cannot
read.
*/}}
{{- define "heymarket-operator.defaults" -}}
{{- include "heymarket-operator.fill" (dict "values" .Values "defaults" (.Files.Get "files/values.yaml" | fromYaml)) -}}
{{- include "heymarket-operator.prune" (omit .Values "global") -}}
{{- end }}

{{- define "heymarket-operator.fill" -}}
{{- range $name, $default := .defaults -}}
{{- if or (not (hasKey $.values $name)) (kindIs "invalid" (get $.values $name)) -}}
{{- $_ := set $.values $name $default -}}
{{- else if and (kindIs "map" $default) (not (has $name (list "limits" "requests" "labels"))) -}}
{{- include "heymarket-operator.fill" (dict "values" (get $.values $name) "defaults" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "heymarket-operator.prune" -}}
{{- range $name, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $ $name -}}
{{- else if and (or (kindIs "map" $value) (kindIs "slice" $value)) (not (has $name (list "podSecurityContext" "containerSecurityContext" "livenessProbe" "extraObjects"))) -}}
{{- include "heymarket-operator.prune" $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "heymarket-operator.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* The name of the release's objects: the release's own where it already says what it is. */}}
{{- define "heymarket-operator.fullname" -}}
{{- $name := .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if not (contains (include "heymarket-operator.name" .) .Release.Name) -}}
{{- $name = printf "%s-%s" .Release.Name (include "heymarket-operator.name" .) -}}
{{- end -}}
{{- /* The name of a Service holds no dot, and begins with a letter. */ -}}
{{- $name = replace "." "-" $name -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- $name = printf "hm-%s" $name -}}
{{- end -}}
{{- /* A StatefulSet's Pods carry a label with its name and a hash, of 63 characters at most. */ -}}
{{- $name | trunc 44 | trimAll "-" -}}
{{- end }}

{{- define "heymarket-operator.redisName" -}}
{{ include "heymarket-operator.fullname" . }}-redis
{{- end }}

{{- define "heymarket-operator.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "heymarket-operator.fullname" .) }}
{{- end }}

{{/* The Pod of `helm test`, its rights, and the webhook that it makes for a while. */}}
{{- define "heymarket-operator.testName" -}}
{{ printf "%s-test" (include "heymarket-operator.fullname" .) }}
{{- end }}

{{- define "heymarket-operator.testNamespace" -}}
{{ first (append .Values.namespaces .Release.Namespace) }}
{{- end }}

{{- define "heymarket-operator.selector" -}}
app.kubernetes.io/name: {{ include "heymarket-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "heymarket-operator.redisSelector" -}}
app.kubernetes.io/name: heymarket-redis
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of every object. Ours come last: a selector depends on them. */}}
{{- define "heymarket-operator.labels" -}}
{{- $ours := dict
    "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
    "app.kubernetes.io/name" (include "heymarket-operator.name" .)
    "app.kubernetes.io/instance" .Release.Name
    "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-")
    "app.kubernetes.io/managed-by" .Release.Service -}}
{{ toYaml (merge $ours .Values.commonLabels) }}
{{- end }}

{{/* Labels of one object, in a dict: root, and its own labels, which override those of every object but the two by which the release finds it. */}}
{{- define "heymarket-operator.ownLabels" -}}
{{- $every := include "heymarket-operator.labels" .root | fromYaml -}}
{{ toYaml (mergeOverwrite (dict) $every (.labels | default dict) (pick $every "app.kubernetes.io/instance" "app.kubernetes.io/managed-by")) }}
{{- end }}

{{/*
The metadata of an object. It takes a dict: root, name; namespaced objects also namespace; labels and annotations besides those of every object.
*/}}
{{- define "heymarket-operator.metadata" -}}
name: {{ .name | quote }}
{{- with .namespace }}
namespace: {{ . | quote }}
{{- end }}
labels:
  {{- include "heymarket-operator.ownLabels" . | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "heymarket-operator.image" -}}
{{- with .Values.image -}}
{{- /* As image names are read everywhere: a host has a dot or a port. */ -}}
{{- if and .registry (not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" .repository)) }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if or .tag (not .digest) }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- if .digest }}@{{ .digest }}{{ end }}
{{- end }}
{{- end }}

{{/* The user, group and fsGroup of Pods; empty where the platform assigns them. */}}
{{- define "heymarket-operator.userID" -}}
{{- $platform := or (eq (toString .Values.userID) "Platform") (and (eq (toString .Values.userID) "Auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- if not $platform }}{{ ternary 65532 .Values.userID (eq (toString .Values.userID) "Auto") | int64 }}{{ end }}
{{- end }}

{{/* Fields of a dict's "ours" with those of "theirs" over them, at every depth; null removes one. */}}
{{- define "heymarket-operator.override" -}}
{{- range $name, $value := .theirs -}}
{{- $was := get $.ours $name -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $.ours $name -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $was) -}}
{{- $_ := include "heymarket-operator.override" (dict "ours" $was "theirs" $value) -}}
{{- else -}}
{{- $_ := set $.ours $name $value -}}
{{- end -}}
{{- end -}}
{{ toYaml .ours }}
{{- end }}

{{- define "heymarket-operator.podSecurityContext" -}}
{{- $ours := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- with include "heymarket-operator.userID" . -}}
{{- $ours = merge $ours (dict "runAsUser" (int64 .) "runAsGroup" (int64 .) "fsGroup" (int64 .)) -}}
{{- end -}}
{{ include "heymarket-operator.override" (dict "ours" $ours "theirs" .Values.podSecurityContext) }}
{{- end }}

{{- define "heymarket-operator.containerSecurityContext" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) -}}
{{ include "heymarket-operator.override" (dict "ours" $ours "theirs" .Values.containerSecurityContext) }}
{{- end }}

{{/* Of mounted Secrets: without an fsGroup they belong to root. */}}
{{- define "heymarket-operator.secretMode" -}}
{{ ternary "0440" "0444" (hasKey (include "heymarket-operator.podSecurityContext" . | fromYaml) "fsGroup") }}
{{- end }}

{{/* A list in YAML, or nothing. */}}
{{- define "heymarket-operator.pullSecrets" -}}
{{- $secrets := .Values.imagePullSecrets -}}
{{- range .Values.global.imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $secrets }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* Defaults of spec.receiver as JSON, or nothing. */}}
{{- define "heymarket-operator.receiverDefaults" -}}
{{- $set := dict -}}
{{- range $name := list "imagePullSecrets" "nodeSelector" "tolerations" "priorityClassName" "resources" -}}
{{- with get $.Values.receiver $name }}{{ $_ := set $set $name . }}{{ end -}}
{{- end -}}
{{- with $set }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* Not empty where the chart brings its own Redis. */}}
{{- define "heymarket-operator.redisBundled" -}}
{{- if not (or .Values.redis.url .Values.redis.existingSecret.name) }}true{{ end }}
{{- end }}

{{/* Whose credential receivers get. */}}
{{- define "heymarket-operator.redisIsolation" -}}
{{ .Values.redis.isolation | default (ternary "Managed" "Shared" (eq (include "heymarket-operator.redisBundled" .) "true")) }}
{{- end }}

{{/*
Not empty where the bundled Redis has a claim. What was chosen at first stays: Redis would begin empty on the other kind of volume.
*/}}
{{- define "heymarket-operator.redisPersistent" -}}
{{- $persistence := .Values.redis.bundled.persistence -}}
{{- if eq $persistence.mode "Always" }}true
{{- else if eq $persistence.mode "Auto" }}
{{- $name := include "heymarket-operator.redisName" . -}}
{{- if or $persistence.storageClass (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $name) }}true
{{- else if not (lookup "apps/v1" "StatefulSet" .Release.Namespace $name) }}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items }}
{{- if eq "true" (dig "metadata" "annotations" "storageclass.kubernetes.io/is-default-class" "" .) }}true{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Fails if two entries of a list have the same key, or one has a key of the chart's own. A list: the value's name, the key, the value, and the chart's own. */}}
{{- define "heymarket-operator.unique" -}}
{{- $own := slice . 3 -}}
{{- $key := index . 1 -}}
{{- $seen := list -}}
{{- range index . 2 -}}
{{- $id := get . $key -}}
{{- if has $id $own -}}
{{- fail (printf "%s has the %s %s, which the chart itself uses: choose another one" (first $) $key $id) -}}
{{- else if has $id $seen -}}
{{- fail (printf "%s has the %s %s twice: make one entry of the two" (first $) $key $id) -}}
{{- end -}}
{{- $seen = append $seen $id -}}
{{- end -}}
{{- end }}

{{/* A duration such as 1m30s. */}}
{{- define "heymarket-operator.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $total = add $total (mul (trimSuffix $unit . | int64) (get $units $unit)) -}}
{{- end -}}
{{ $total }}
{{- end }}

{{/* What the schema cannot say in a sentence. */}}
{{- define "heymarket-operator.validate" -}}
{{- if and .Values.redis.url .Values.redis.existingSecret.name }}
{{- fail "redis.url and redis.existingSecret.name are both set: keep the one that is to be used" }}
{{- end }}
{{- if .Values.redis.caSecret.name }}
{{- if include "heymarket-operator.redisBundled" . }}
{{- fail "redis.caSecret.name is set, and the bundled Redis has no TLS: name a Redis of your own by redis.url or redis.existingSecret.name, or leave it out" }}
{{- else if hasPrefix "redis://" .Values.redis.url }}
{{- fail "redis.caSecret.name is set, and redis.url begins with redis://, so nothing is verified: begin it with rediss://, or leave redis.caSecret.name out" }}
{{- end }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail (printf "replicas is %d and leaderElection.enabled is false: with more than one manager, one has to be elected" (int .Values.replicas)) }}
{{- end }}
{{- $addresses := .Values.targetAddresses }}
{{- if or (not (has (first $addresses) (list "Any" "Public"))) (and (has "Any" $addresses) (gt (len $addresses) 1)) }}
{{- fail (printf "targetAddresses is [%s]: write [Any], [Public], or [Public] with networks after it" (join ", " $addresses)) }}
{{- end }}
{{- with .Values.receiver.networkPolicy }}
{{- if and (or .eventsFrom .operationsFrom .targetNamespaces) (not .enabled) }}
{{- fail "receiver.networkPolicy.enabled is false, so eventsFrom, operationsFrom and targetNamespaces beside it have no effect: set it, or leave them out" }}
{{- end }}
{{- end }}
{{- if eq (get (urlParse .Values.traces.endpoint) "host" | splitList ":" | last) "4317" }}
{{- fail "traces.endpoint has port 4317, which is OTLP over gRPC; set the port of OTLP over HTTP, usually 4318" }}
{{- end }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty: name the ServiceAccount that the manager is to use" }}
{{- end }}
{{- if not (or .Values.serviceAccount.automount .Values.extraVolumes) }}
{{- fail "serviceAccount.automount is false and extraVolumes is empty, so the manager has no token: add a projected volume with one, and mount it at /var/run/secrets/kubernetes.io/serviceaccount with extraVolumeMounts" }}
{{- end }}
{{- if has .Values.nameOverride (list "heymarket-receiver" "heymarket-redis" "heymarket-operator-test" "heymarket-operator-uninstall") }}
{{- fail (printf "nameOverride is %s, a name by which other Pods of the operator are selected: choose another one" .Values.nameOverride) }}
{{- end }}
{{- if and (eq (get .Values.strategy "type") "Recreate") .Values.strategy.rollingUpdate }}
{{- fail "strategy.type is Recreate and strategy.rollingUpdate is set: keep one of the two" }}
{{- end }}
{{- include "heymarket-operator.unique" (list "hostAliases" "ip" .Values.hostAliases) }}
{{- include "heymarket-operator.unique" (list "extraEnv" "name" .Values.extraEnv "POD_NAME" "POD_NAMESPACE") }}
{{- include "heymarket-operator.unique" (list "extraVolumes" "name" .Values.extraVolumes "redis" "redis-ca") }}
{{- include "heymarket-operator.unique" (list "extraVolumeMounts" "mountPath" .Values.extraVolumeMounts "/etc/heymarket/redis" "/etc/heymarket/redis-ca") }}
{{- range .Values.extraArgs }}
{{- $flag := splitList "=" . | first }}
{{- if has $flag (list "--redis-url-file" "--redis-ca-file" "--namespaces" "--leader-elect" "--metrics-bind-address" "--health-probe-bind-address") }}
{{- fail (printf "extraArgs has %s, with which the chart's ports, volumes, rights or replicas must agree: remove it, and use the chart's other values" $flag) }}
{{- end }}
{{- end }}
{{- range $name := list "podMonitor" "serviceMonitor" }}
{{- with get $.Values.monitoring $name }}
{{- if and .interval .scrapeTimeout (gt (include "heymarket-operator.milliseconds" .scrapeTimeout | int64) (include "heymarket-operator.milliseconds" .interval | int64)) }}
{{- fail (printf "monitoring.%s.scrapeTimeout is %s and interval is %s: Prometheus rejects a timeout that is longer than the interval" $name .scrapeTimeout .interval) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (ne (toString .Values.podDisruptionBudget.minAvailable) "") (ne (toString .Values.podDisruptionBudget.maxUnavailable) "") }}
{{- fail "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set: keep one of the two" }}
{{- end }}
{{- if and (eq .Values.dnsPolicy "None") (not .Values.dnsConfig.nameservers) }}
{{- fail "dnsPolicy is None and dnsConfig.nameservers is empty: name the servers, or choose another policy" }}
{{- end }}
{{- if and .Values.redis.bundled.persistence.storageClass (eq .Values.redis.bundled.persistence.mode "Never") }}
{{- fail "redis.bundled.persistence.mode is Never and redis.bundled.persistence.storageClass is set: keep one of the two" }}
{{- end }}
{{- end }}

{{/* Where receivers are scraped. */}}
{{- define "heymarket-operator.receiverNamespaces" -}}
{{- if .Values.namespaces -}}
matchNames:
  {{- toYaml .Values.namespaces | nindent 2 }}
{{- else -}}
any: true
{{- end }}
{{- end }}

{{/* How a monitor, which is the context, scrapes. */}}
{{- define "heymarket-operator.scrape" -}}
{{- with .interval }}
interval: {{ . | quote }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . | quote }}
{{- end }}
{{- end }}

{{/*
Receivers name their webhook in each series. The label is set for those of an older version, which do not, as well; what Prometheus then keeps under
exported_namespace and exported_webhook is the same once more. The context is the monitor.
*/}}
{{- define "heymarket-operator.receiverRelabelings" -}}
relabelings:
  - sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_instance]
    targetLabel: webhook
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
metricRelabelings:
  - action: labeldrop
    regex: exported_(namespace|webhook)
{{- end }}

{{/* The groups of files/rules.yaml, with the values of monitoring.prometheusRule. */}}
{{- define "heymarket-operator.rules" -}}
{{- $values := .Values.monitoring.prometheusRule -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- range $group := (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
  {{- $rules := list -}}
  {{- range $rule := $group.rules -}}
    {{- if $rule.alert -}}
      {{- $names = append $names $rule.alert -}}
      {{- $change := get $values.alerts $rule.alert | default dict -}}
      {{- $threshold := $rule.threshold -}}
      {{- if hasKey $change "threshold" -}}
        {{- if not (hasKey $rule "threshold") -}}
          {{- fail (printf "monitoring.prometheusRule.alerts.%s has no threshold to change: remove it" $rule.alert) -}}
        {{- end -}}
        {{- $threshold = $change.threshold -}}
      {{- end -}}
      {{- $expr := $rule.expr | replace "THRESHOLD" (toString $threshold) | replace "OBJECTIVE_ACCEPTED" (toString $values.objectives.accepted) | replace "OBJECTIVE_DELIVERED" (toString $values.objectives.delivered) -}}
      {{- $severity := $change.severity | default $rule.labels.severity -}}
      {{- $runbook := printf "%s#%s" $values.runbookURL (lower $rule.alert) -}}
      {{- $out := dict "alert" $rule.alert "expr" $expr
          "labels" (mergeOverwrite (dict) $values.alertLabels ($change.labels | default dict) (dict "severity" $severity))
          "annotations" (merge (dict "runbook_url" $runbook) $rule.annotations) -}}
      {{- with $change.for | default (get $rule "for") -}}
        {{- $_ := set $out "for" . -}}
      {{- end -}}
      {{- if $change.enabled | default (not (hasKey $change "enabled")) -}}
        {{- $rules = append $rules $out -}}
      {{- end -}}
    {{- else -}}
      {{- $rules = append $rules $rule -}}
    {{- end -}}
  {{- end -}}
  {{- with $rules -}}
    {{- $groups = append $groups (dict "name" $group.name "rules" .) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $_ := $values.alerts -}}
  {{- if not (has $name $names) -}}
    {{- fail (printf "monitoring.prometheusRule.alerts names %q, which is no alert. The alerts are: %s" $name (join ", " $names)) -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end }}
