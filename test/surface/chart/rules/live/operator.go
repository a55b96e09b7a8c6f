package live

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"sigs.k8s.io/yaml"
)

// Operator is a manager on a kube-apiserver of its own, in which no other controller runs, and a Prometheus database.
type Operator struct {
	lab
	api     string
	cluster *http.Client
	metrics string
}

// OpenOperator starts an API server and the manager. KUBEBUILDER_ASSETS names the directory with kube-apiserver and etcd.
func OpenOperator(ctx context.Context, root string) (*Operator, error) {
	o := &Operator{}
	err := o.open()
	if err == nil {
		err = o.start(ctx, root)
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *Operator) start(ctx context.Context, root string) error {
	kubeconfig := filepath.Join(o.dir, "kubeconfig")
	serve, err := Build(ctx, root, o.dir, "./internal/apiservertest/serve")
	if err != nil {
		return err
	}
	manager, err := Build(ctx, root, o.dir, "./cmd/manager")
	if err != nil {
		return err
	}
	if err := o.serve(exec.CommandContext(ctx, serve, kubeconfig)); err != nil {
		return fmt.Errorf("start the API server: %w", err)
	}
	if err := o.connect(kubeconfig); err != nil {
		return err
	}
	address, redis := free(), filepath.Join(o.dir, "redis-url")
	if err := os.WriteFile(redis, []byte("redis://redis.example.com:6379"), 0o600); err != nil {
		return err
	}
	o.metrics = "http://" + address + "/metrics"
	cmd := exec.CommandContext(ctx, manager, "--redis-url-file="+redis, "--receiver-image=receiver:test", "--metrics-bind-address="+address, "--health-probe-bind-address=0")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	if err := o.process(cmd); err != nil {
		return fmt.Errorf("start the manager: %w", err)
	}
	return o.await(ctx, "the manager serves no metrics", func() bool { return o.status(ctx, o.metrics) == http.StatusOK })
}

// serve starts the API server and waits for its line. It ends with its standard input.
func (o *Operator) serve(cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return err
	}
	o.cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if !bufio.NewScanner(out).Scan() {
		return errors.New(complaint.String())
	}
	return nil
}

func (o *Operator) connect(kubeconfig string) error {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	cert, err := tls.X509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	o.api = config.Clusters[0].Cluster.Server
	o.cluster = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12,
	}}}
	return nil
}

// Webhook creates the HeymarketWebhook of the lab's receiver.
func (o *Operator) Webhook(ctx context.Context) error {
	for _, object := range [][2]string{
		{"/api/v1/namespaces", `metadata: {name: staging}`},
		{"/api/v1/namespaces/staging/secrets", "metadata: {name: heymarket}\nstringData: {token: the-token-that-is-in-force}"},
		{"/apis/heymarket.dev/v1alpha1/namespaces/staging/heymarketwebhooks", `
apiVersion: heymarket.dev/v1alpha1
kind: HeymarketWebhook
metadata: {name: support}
spec:
  token: {secretKeyRef: {name: heymarket, key: token}}
  targets: [{name: crm, url: "http://crm.staging.svc:8080/heymarket"}]`},
	} {
		body, err := yaml.YAMLToJSON([]byte(object[1]))
		if err != nil {
			return err
		}
		if err := o.request(ctx, http.MethodPost, object[0], "application/json", body); err != nil {
			return err
		}
	}
	return nil
}

// Receivers waits for the Deployment of a webhook's receivers and writes how many Pods of it are ready, as the Deployment controller would.
func (o *Operator) Receivers(ctx context.Context, namespace, webhook string, ready int) error {
	path := "/apis/apps/v1/namespaces/" + namespace + "/deployments/" + webhook + "-receiver"
	err := o.await(ctx, "there is no Deployment", func() bool { return o.request(ctx, http.MethodGet, path, "", nil) == nil })
	if err != nil {
		return err
	}
	status := fmt.Sprintf(`{"status": {"replicas": 2, "readyReplicas": %d, "availableReplicas": %[1]d}}`, ready)
	return o.request(ctx, http.MethodPatch, path+"/status", "application/merge-patch+json", []byte(status))
}

func (o *Operator) request(ctx context.Context, method, path, contentType string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, o.api+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := o.cluster.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode > 299 {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return nil
}

// Scrape reads the manager's metrics into the database as of now. As with the chart's honorLabels, the namespace that a series names stays.
func (o *Operator) Scrape(ctx context.Context, now time.Time) (Scrape, error) {
	return o.scrapeInto(ctx, o.DB, now)
}

func (o *Operator) scrapeInto(ctx context.Context, db *tsdb.DB, now time.Time) (Scrape, error) {
	return o.scrape(ctx, db, o.metrics, now, func(series labels.Labels) labels.Labels {
		b := labels.NewBuilder(series).Set("pod", "heymarket-operator-0")
		if !series.Has("namespace") {
			b.Set("namespace", "heymarket-system")
		}
		return b.Labels()
	})
}
