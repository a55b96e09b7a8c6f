package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"heymarket.dev/operator/internal/controller"
)

// options are the parsed flags.
type options struct {
	redisURLFile   string
	redisCAFile    string
	redisIsolation controller.RedisIsolation
	redisRotation  time.Duration
	receiverImage  string
	receiverUserID userID
	defaults       controller.ReceiverDefaults
	hostTemplate   *controller.HostTemplate
	allowedHosts   controller.AllowedHosts
	annotations    controller.AllowList
	labels         controller.AllowList
	ingressClass   string
	namespaces     []string
	gateways       controller.Gateways
	targets        controller.TargetAddresses
	trustedProxies []string
	traces         controller.Traces
	probeInterval  time.Duration
	maxRollouts    int
	maxBacklog     int64 // bytes
	networkPolicy  *controller.NetworkPolicy
	leaderElect    bool
	metricsAddress string
	healthAddress  string
	logLevel       slog.Level
	logFormat      string
	version        bool
}

// parseOptions returns flag.ErrHelp after printing the flags on request. Any other error names the flag and the
// remedy.
func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var hostTemplate, allowedHosts, annotations, labels, gateways, targets, proxies, namespaces, eventsFrom, operationsFrom, targetsIn, maxBacklog, defaults, level string
	var networkPolicies bool
	o.receiverUserID = controller.DefaultReceiverUserID
	f := flag.NewFlagSet("manager", flag.ContinueOnError)
	f.SetOutput(io.Discard) // The caller prints the error, in one sentence.
	f.StringVar(&o.redisURLFile, "redis-url-file", "", "`file` that holds the URL of Redis (redis:// or rediss://); read again when it changes. Required.")
	f.StringVar(&o.redisCAFile, "redis-ca-file", "", "`file` of certificates in PEM form that are trusted for rediss:// instead of the system's authorities; read again when it changes. Default: the system's.")
	f.StringVar((*string)(&o.redisIsolation), "redis-isolation", string(controller.RedisShared), "`mode`: Shared hands the URL in --redis-url-file to the receivers of every namespace. Managed keeps it to the operator, which creates a Redis user for each namespace that may access only the keys of that namespace; the user in the URL then needs ACL SETUSER. Needs POD_NAMESPACE.")
	f.DurationVar(&o.redisRotation, "redis-rotation", 30*24*time.Hour, "`age` at which Managed replaces the password of a namespace's Redis user, at least 1h; 0 for never.")
	f.StringVar(&o.receiverImage, "receiver-image", "", "`image` of the receivers. Default: the image of the Pod that the manager runs in.")
	f.StringVar(&defaults, "receiver-defaults", "", "`defaults` of spec.receiver for resources that leave these fields out, as a JSON object with resources, nodeSelector, tolerations, priorityClassName and imagePullSecrets, such as {\"imagePullSecrets\":[{\"name\":\"registry\"}]}. Each replaces the built-in default as a whole.")
	f.Var(&o.receiverUserID, "receiver-user-id", "`ID` of the user, group and fsGroup of receiver Pods whose resource has no podSecurityContext: a number, or Platform to leave them out where the platform assigns them, as OpenShift does.")
	f.StringVar(&hostTemplate, "host-template", "", "`template` of the host of resources that name none, with {{.Namespace}} and {{.Name}} and nothing else in braces, such as {{.Namespace}}.hooks.example.com. Default: the address that the Ingress gets.")
	f.StringVar(&allowedHosts, "allowed-hosts", "", "comma separated `list` of the hosts that resources may name, with the same in braces; *. in front means any name below. For example {{.Namespace}}.hooks.example.com,*.{{.Namespace}}.example.com. Default: any host that --host-template does not make for another namespace; set it where namespaces do not trust each other.")
	f.StringVar(&annotations, "allowed-annotations", controller.DefaultKeys, "comma separated `list` of the annotations that HeymarketWebhooks may set on Ingresses and Pods: keys such as example.com/team, beginnings such as example.com/*, and Default for what cert-manager, external-dns, ingress controllers, Prometheus and meshes commonly need; * for any.")
	f.StringVar(&labels, "allowed-labels", controller.DefaultKeys, "comma separated `list` of the labels that HeymarketWebhooks may set on Pods, written in the same way.")
	f.StringVar(&o.ingressClass, "ingress-class", "", "IngressClass `name` for resources that name none. Default: the cluster's default class.")
	f.StringVar(&gateways, "gateway", "", "comma separated `list` of Gateways, each namespace/name, for resources of exposure type HTTPRoute that name none. Default: they have to name one.")
	f.StringVar(&proxies, "trusted-proxies", "", "comma separated `list` of the networks of the ingress controller and what stands before it, such as 10.244.0.0/16. Client addresses for rate limiting are taken from X-Forwarded-For, Forwarded or X-Real-IP only when the request comes from these networks. Default: none.")
	f.StringVar(&targets, "target-addresses", "Any", "`addresses` that targets may have: Any, or Public, which refuses private ranges, or Public and networks that are allowed besides, such as Public,10.96.0.0/12 with the cluster's Services. Loopback, link-local and clouds' metadata addresses are always refused.")
	f.StringVar(&o.traces.Endpoint, "traces-endpoint", "", "`URL` of a collector that takes OTLP over HTTP, such as http://collector.observability:4318, to which receivers send a span for each request and each attempt. Default: none.")
	f.Float64Var(&o.traces.Ratio, "traces-ratio", 1, "`share` of traces that receivers record, from 0 to 1.")
	f.DurationVar(&o.probeInterval, "probe-interval", 0, "`time` between two requests to the public URL of each webhook, at least 1m, through DNS, TLS and the route, for its condition Reachable. They store nothing, and connect only where --target-addresses allows. Default: 0, which means none.")
	f.StringVar(&namespaces, "namespaces", "", "comma separated `list` of namespaces to work in. Default: all.")
	f.IntVar(&o.maxRollouts, "max-concurrent-rollouts", 10, "how `many` receivers roll at a time when this version of the operator replaces the Pods of another one; 0 for all at once.")
	f.StringVar(&maxBacklog, "max-backlog-bytes", "", "`bytes`, such as 64Mi, that the pending events and dead letters of one webhook may take in the shared Redis; beyond it its new events are rejected with 429. Default: a tenth of Redis' maxmemory, or 256Mi where it has none.")
	f.BoolVar(&networkPolicies, "network-policies", false, "create a NetworkPolicy for each receiver: allow inbound events and metrics scrapes, and outbound traffic to Redis, targets and DNS. Needs POD_NAMESPACE.")
	f.StringVar(&eventsFrom, "network-policy-events-from", "", "comma separated `list` of the namespaces from which events reach receivers, such as that of the ingress controller. Default: from anywhere.")
	f.StringVar(&operationsFrom, "network-policy-operations-from", "", "comma separated `list` of the namespaces, besides the operator's own, that may reach the receivers' operations port, such as those of Prometheus and KEDA. Default: none.")
	f.StringVar(&targetsIn, "network-policy-target-namespaces", "", "comma separated `list` of the namespaces, besides a webhook's own, to whose Pods the NetworkPolicies let receivers out where a target or a webhook's own Redis names them; * for any. Default: none.")
	f.BoolVar(&o.leaderElect, "leader-elect", false, "elect a leader, so that only one of several replicas reconciles.")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "`address` for Prometheus metrics by plain HTTP; 0 for none.")
	f.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "`address` for /healthz and /readyz; 0 for none.")
	f.StringVar(&level, "log-level", "info", "`level`: debug, info, warn or error.")
	f.StringVar(&o.logFormat, "log-format", "json", "`format`: json or text.")
	f.BoolVar(&o.version, "version", false, "print the version and exit.")

	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(out)
			fmt.Fprintln(out, "manager runs the Heymarket webhook operator; manager check tries out one that is installed. Flags:")
			f.PrintDefaults()
			return o, flag.ErrHelp
		}
		return o, fmt.Errorf("%w; see manager --help for the flags", err)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; everything is set by flags, see manager --help", f.Arg(0))
	}
	if o.version {
		return o, nil
	}
	if o.redisURLFile == "" {
		return o, errors.New("--redis-url-file is not set; name a file that holds the URL of Redis, such as redis://redis.example.com:6379/0")
	}
	if err := o.logLevel.UnmarshalText([]byte(level)); err != nil || !slices.Contains([]string{"debug", "info", "warn", "error"}, level) {
		return o, fmt.Errorf("--log-level is %q; set debug, info, warn or error", level)
	}
	if err := checkTraces(o.traces); err != nil {
		return o, err
	}
	if err := checkRedisIsolation(o); err != nil {
		return o, err
	}
	if o.probeInterval != 0 && o.probeInterval < time.Minute {
		return o, fmt.Errorf("--probe-interval is %s; set 1m or more, or 0 for none", o.probeInterval)
	}
	if o.maxRollouts < 0 {
		return o, fmt.Errorf("--max-concurrent-rollouts is %d; set 1 or more, or 0 for no limit", o.maxRollouts)
	}
	if maxBacklog != "" {
		q, err := resource.ParseQuantity(maxBacklog)
		if err != nil || q.Value() < 1<<20 {
			return o, fmt.Errorf("--max-backlog-bytes is %q; set a quantity of at least 1Mi, such as 64Mi", maxBacklog)
		}
		o.maxBacklog = q.Value()
	}
	if o.logFormat != "json" && o.logFormat != "text" {
		return o, fmt.Errorf("--log-format is %q; set json or text", o.logFormat)
	}
	for name, address := range map[string]string{"metrics-bind-address": o.metricsAddress, "health-probe-bind-address": o.healthAddress} {
		if address == "0" {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return o, fmt.Errorf("--%s is %q; set host:port, :port, or 0 for none", name, address)
		}
	}
	if o.ingressClass != "" && len(validation.IsDNS1123Subdomain(o.ingressClass)) > 0 {
		return o, fmt.Errorf("--ingress-class is %q; set the name of an IngressClass", o.ingressClass)
	}
	var err error
	if o.namespaces, err = namespaceList("namespaces", namespaces); err != nil {
		return o, err
	}
	if o.networkPolicy, err = networkPolicy(networkPolicies, eventsFrom, operationsFrom, targetsIn); err != nil {
		return o, err
	}
	if o.gateways, err = controller.ParseGateways(gateways); err != nil {
		return o, fmt.Errorf("--gateway is not usable: %w; set a list such as gateways/public", err)
	}
	if o.targets, err = controller.ParseTargetAddresses(targets); err != nil {
		return o, fmt.Errorf("--target-addresses is %q: %w; set Any, Public, or Public and networks such as Public,10.96.0.0/12", targets, err)
	}
	if o.trustedProxies, err = controller.ParseNetworks(proxies); err != nil {
		return o, fmt.Errorf("--trusted-proxies is not usable: %w; set a list such as 10.244.0.0/16", err)
	}
	if o.allowedHosts, err = controller.ParseAllowedHosts(allowedHosts); err != nil {
		return o, fmt.Errorf("--allowed-hosts is not usable: %w; set a list such as *.{{.Namespace}}.hooks.example.com", err)
	}
	if o.defaults, err = controller.ParseReceiverDefaults(defaults); err != nil {
		return o, fmt.Errorf("--receiver-defaults is not usable: %w; set an object such as {\"imagePullSecrets\":[{\"name\":\"registry\"}]}", err)
	}
	if o.annotations, err = controller.ParseAllowList(annotations, controller.DefaultAnnotations); err != nil {
		return o, fmt.Errorf("--allowed-annotations is not usable: %w; set a list such as Default,example.com/*", err)
	}
	if o.labels, err = controller.ParseAllowList(labels, controller.DefaultLabels); err != nil {
		return o, fmt.Errorf("--allowed-labels is not usable: %w; set a list such as Default,example.com/team", err)
	}
	if hostTemplate != "" {
		t, err := controller.ParseHostTemplate(hostTemplate)
		if err != nil {
			return o, fmt.Errorf("--host-template is not usable: %w; set one such as {{.Namespace}}.hooks.example.com", err)
		}
		o.hostTemplate = t
	}
	return o, nil
}

// userID is the user of Pods; 0, written Platform, lets the platform choose it.
type userID int64

const platformUserID = "Platform"

func (id *userID) String() string {
	if *id == 0 {
		return platformUserID
	}
	return strconv.FormatInt(int64(*id), 10)
}

func (id *userID) Set(s string) error {
	if s == platformUserID {
		*id = 0
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return errors.New("it is neither Platform nor a number from 1 to 2147483647")
	}
	*id = userID(n)
	return nil
}

func checkRedisIsolation(o options) error {
	switch {
	case o.redisIsolation != controller.RedisShared && o.redisIsolation != controller.RedisManaged:
		return fmt.Errorf("--redis-isolation is %q; set Shared or Managed", o.redisIsolation)
	case o.redisIsolation == controller.RedisManaged && os.Getenv("POD_NAMESPACE") == "":
		return errors.New("--redis-isolation=Managed names Redis users after the operator's namespace, which is not known; set POD_NAMESPACE to this Pod's")
	case o.redisRotation != 0 && o.redisRotation < time.Hour:
		return fmt.Errorf("--redis-rotation is %s; set 1h or more, or 0 for never", o.redisRotation)
	}
	return nil
}

func checkTraces(t controller.Traces) error {
	if t.Endpoint != "" {
		u, err := url.Parse(t.Endpoint)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.User != nil:
			return errors.New("--traces-endpoint is no URL of a collector; set one without a password, such as http://collector.observability:4318")
		case u.Port() == "4317":
			return errors.New("--traces-endpoint has port 4317, which is OTLP over gRPC; set the port of OTLP over HTTP, usually 4318")
		}
	}
	if !(t.Ratio >= 0 && t.Ratio <= 1) {
		return fmt.Errorf("--traces-ratio is %v; set a number from 0 to 1", t.Ratio)
	}
	return nil
}

// namespaceList parses a comma-separated list without duplicates.
func namespaceList(flagName, s string) ([]string, error) {
	var out []string
	for ns := range strings.SplitSeq(s, ",") {
		if ns = strings.TrimSpace(ns); ns == "" {
			continue
		}
		if len(validation.IsDNS1123Label(ns)) > 0 {
			return nil, fmt.Errorf("--%s holds %q, which is no name of a namespace; set a list such as staging,production", flagName, ns)
		}
		if !slices.Contains(out, ns) {
			out = append(out, ns)
		}
	}
	return out, nil
}

func networkPolicy(wanted bool, eventsFrom, operationsFrom, targetsIn string) (*controller.NetworkPolicy, error) {
	p := &controller.NetworkPolicy{OperatorNamespace: os.Getenv("POD_NAMESPACE")}
	var err error
	if p.EventsFrom, err = namespaceList("network-policy-events-from", eventsFrom); err != nil {
		return nil, err
	}
	if p.OperationsFrom, err = namespaceList("network-policy-operations-from", operationsFrom); err != nil {
		return nil, err
	}
	if strings.TrimSpace(targetsIn) == "*" {
		p.TargetNamespaces = []string{"*"}
	} else if p.TargetNamespaces, err = namespaceList("network-policy-target-namespaces", targetsIn); err != nil {
		return nil, err
	}
	switch {
	case !wanted && eventsFrom+operationsFrom+targetsIn != "":
		return nil, errors.New("--network-policy-events-from, --network-policy-operations-from and --network-policy-target-namespaces have no effect without --network-policies; set it, or leave them out")
	case !wanted:
		return nil, nil
	case p.OperatorNamespace == "":
		return nil, errors.New("--network-policies would keep the operator itself from the receivers, because its namespace is not known; set POD_NAMESPACE to this Pod's")
	}
	return p, nil
}
