package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/controller"
	"heymarket.dev/operator/internal/testenv"
)

// etcdQuota is etcd's storage limit: a million small objects, or a gigabyte of Secrets with their history.
const etcdQuota = 8 << 30

// serverAddress is the API server's advertised address, which must not be a loopback address.
const serverAddress = "10.127.0.1"

// cluster is an API server for this benchmark only. No controller runs beside it: there are no Pods, and nothing is
// collected.
type cluster struct {
	env *envtest.Environment
	// admin is exempt from the API server's limits; its client has none of its own either.
	admin    client.Client
	raw      rest.Interface
	metadata metadata.Interface
	// kubeconfig is a file with the rights of config/rbac, and no others.
	kubeconfig string
}

func startCluster(ctx context.Context, dir string) (_ *cluster, err error) {
	root, err := testenv.Root()
	if err != nil {
		return nil, err
	}
	env, err := apiservertest.Environment()
	if err != nil {
		return nil, err
	}
	env.ControlPlane.Etcd.Configure().Set("quota-backend-bytes", strconv.Itoa(etcdQuota))
	env.ControlPlane.GetAPIServer().Configure().
		Set("advertise-address", serverAddress).
		Set("service-cluster-ip-range", "10.64.0.0/16")
	c := &cluster{env: env, kubeconfig: filepath.Join(dir, "kubeconfig")}
	cfg, err := env.Start()
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	cfg.QPS = -1
	if c.admin, err = client.New(cfg, client.Options{Scheme: controller.Scheme()}); err != nil {
		return nil, err
	}
	set, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	c.raw = set.RESTClient()
	if c.metadata, err = metadata.NewForConfig(metadata.ConfigFor(cfg)); err != nil {
		return nil, err
	}
	return c, c.admitOperator(ctx, filepath.Join(root, "config", "rbac", "role.yaml"))
}

func (c *cluster) stop() { _ = c.env.Stop() }

// admitOperator gives the operator the rights that it is shipped with.
func (c *cluster) admitOperator(ctx context.Context, roles string) error {
	const (
		name      = "heymarket-operator"
		namespace = "heymarket-system"
		// The API server takes requests of service accounts by a measure of their own.
		account = "system:serviceaccount:" + namespace + ":" + name
	)
	raw, err := os.ReadFile(roles)
	if err != nil {
		return err
	}
	for doc := range bytes.SplitSeq(raw, []byte("---\n")) {
		if !bytes.Contains(doc, []byte("kind: ClusterRole\n")) {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := yaml.UnmarshalStrict(doc, role); err != nil {
			return err
		}
		role.Name = name
		if err := c.admin.Create(ctx, role); err != nil {
			return err
		}
	}
	if err := c.admin.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: account}},
	}); err != nil {
		return err
	}
	user, err := c.env.AddUser(envtest.User{Name: account, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}}, nil)
	if err != nil {
		return err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return err
	}
	return os.WriteFile(c.kubeconfig, kubeconfig, 0o600)
}

func (c *cluster) namespace(ctx context.Context, name string) error {
	return c.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// children counts the objects of all kinds that children are of.
func (c *cluster) children(ctx context.Context) (total int, err error) {
	for _, kind := range childKinds {
		list, err := c.metadata.Resource(kind).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", kind.Resource, err)
		}
		total += len(list.Items)
		if list.RemainingItemCount != nil {
			total += int(*list.RemainingItemCount)
		}
	}
	return total, nil
}

// writes are the requests that change something, by verb and resource, as the API server has counted them since it
// started, without those that it creates itself.
type writes map[string]int

// writes asks the API server.
func (c *cluster) writes(ctx context.Context) (writes, error) {
	raw, err := c.raw.Get().AbsPath("/metrics").Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("read the API server's metrics: %w", err)
	}
	out := writes{}
	for line := range strings.Lines(string(raw)) {
		labels, value, ok := sample(line, "apiserver_request_total")
		if !ok || itsOwn[labels["resource"]] {
			continue
		}
		switch labels["verb"] {
		case "APPLY", "PATCH", "POST", "PUT", "DELETE", "DELETECOLLECTION":
			name := labels["verb"] + " " + labels["resource"]
			if s := labels["subresource"]; s != "" {
				name += "/" + s
			}
			out[name] += int(value)
			if labels["code"] == "409" {
				out[conflicts] += int(value)
			}
		}
	}
	return out, nil
}

// itsOwn are what the API server writes by itself: its lease, the addresses that it gives to Services, and events about
// them; those of the operator are counted by the operator. An authorization check
// changes nothing.
var itsOwn = map[string]bool{"leases": true, "ipaddresses": true, "events": true, "subjectaccessreviews": true}

// conflicts is the name under which writes counts answers of 409, which it counts under their own name too.
const conflicts = "conflict"

// since returns the writes after before.
func (w writes) since(before writes) writes {
	out := maps.Clone(w)
	for k, n := range before {
		if out[k] -= n; out[k] == 0 {
			delete(out, k)
		}
	}
	return out
}

// sum adds up the writes whose name has one of the prefixes; all without any.
func (w writes) sum(prefixes ...string) (total int) {
	for name, n := range w {
		if name == conflicts {
			continue
		}
		matches := len(prefixes) == 0
		for _, p := range prefixes {
			matches = matches || strings.HasPrefix(name, p)
		}
		if matches {
			total += n
		}
	}
	return total
}

// sample reads one line of Prometheus' text format, if it is of this metric.
func sample(line, metric string) (labels map[string]string, value float64, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), metric)
	if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
		return nil, 0, false
	}
	end := strings.LastIndexByte(rest, ' ')
	value, err := strconv.ParseFloat(rest[end+1:], 64)
	if err != nil {
		return nil, 0, false
	}
	labels = map[string]string{}
	for pair := range strings.SplitSeq(strings.Trim(strings.TrimSpace(rest[:end]), "{}"), `",`) {
		if name, v, found := strings.Cut(pair, `="`); found {
			labels[name] = strings.TrimSuffix(v, `"`)
		}
	}
	return labels, value, true
}
