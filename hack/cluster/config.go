package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

const nodeName = "node"

// component is one program of the cluster, run and kept running by its init.
type component struct {
	name string
	argv []string // the first is the name that the kube binary is called by, or a program of the host
	wait string   // what must answer before it starts: a socket's path or a URL
}

func (c cluster) components() []component {
	pki := func(name string) string { return c.file("pki/" + name) }
	kubeconfig := func(name string) string { return "--kubeconfig=" + c.file("conf/"+name+".kubeconfig") }
	const etcd = "http://127.0.0.1:2379"
	api := "https://127.0.0.1:6443/readyz"
	return []component{
		{name: "containerd", argv: []string{"containerd", "--config=" + c.file("conf/containerd.toml")}},
		{name: "etcd", argv: []string{
			"etcd", "--name=" + nodeName, "--data-dir=" + c.file("etcd"), "--log-level=warn",
			"--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd, "--listen-peer-urls=http://127.0.0.1:2380",
			"--unsafe-no-fsync", // the data is thrown away with the cluster
		}},
		{name: "kube-apiserver", wait: etcd + "/readyz", argv: []string{
			"kube-apiserver", "--etcd-servers=" + etcd, "--secure-port=6443", "--advertise-address=" + c.nodeIP(),
			"--service-cluster-ip-range=" + c.serviceRange(), "--allow-privileged=true",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("service-account.crt"), "--service-account-signing-key-file=" + pki("service-account.key"),
			"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
			"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
			"--enable-aggregator-routing=true", "--profiling=false",
		}},
		{name: "kube-controller-manager", wait: api, argv: []string{
			"kube-controller-manager", kubeconfig("controller-manager"), "--leader-elect=false", "--use-service-account-credentials=true",
			"--service-account-private-key-file=" + pki("service-account.key"), "--root-ca-file=" + pki("ca.crt"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"), "--profiling=false",
			"--horizontal-pod-autoscaler-downscale-stabilization=15s",     // instead of 5 min, which a test would wait for
			"--flex-volume-plugin-dir=" + c.file("kubelet/volumeplugins"), // it makes the directory, by default below /usr
		}},
		{name: "kube-scheduler", wait: api, argv: []string{"kube-scheduler", kubeconfig("scheduler"), "--leader-elect=false", "--profiling=false"}},
		{name: "kube-proxy", wait: api, argv: []string{"kube-proxy", "--config=" + c.file("conf/proxy.yaml")}},
		{name: "kubelet", wait: api, argv: []string{
			"kubelet", kubeconfig("kubelet"), "--config=" + c.file("conf/kubelet.yaml"), "--root-dir=" + c.file("kubelet"),
			"--cert-dir=" + c.file("kubelet/pki"), "--hostname-override=" + nodeName, "--node-ip=" + c.nodeIP(),
		}},
	}
}

// volumes are directories of the node that Pods may claim: nothing here makes volumes on demand, and a few are enough.
var volumes = []string{"volume-0", "volume-1", "volume-2", "volume-3"}

//go:embed manifests conf
var files embed.FS

// values are what the templates of manifests and conf may name.
func (c cluster) values() (map[string]any, error) {
	v := map[string]any{
		"Volumes": volumes, "Dir": c.dir(), "Node": nodeName, "NodeIP": c.nodeIP(), "DNS": c.service(10), "PodRange": c.podRange(), "Cgroup": "/" + c.cgroup(),
		"Containerd": c.containerdSocket(), "CNI": "/usr/lib/cni", "Pause": imageName("pause"), "CoreDNS": imageName("coredns"), "Traefik": imageName("traefik"),
	}
	for name, file := range map[string]string{"IngressCert": "ingress.crt", "IngressKey": "ingress.key"} {
		data, err := os.ReadFile(c.file("pki/" + file))
		if err != nil {
			return nil, err
		}
		v[name] = strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "\n    ")
	}
	return v, nil
}

// render fills in every template of a directory, by the file's name.
func render(dir string, values map[string]any) (map[string][]byte, error) {
	templates, err := template.New("").Option("missingkey=error").ParseFS(files, dir+"/*")
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, t := range templates.Templates() {
		var text bytes.Buffer
		if err := t.Execute(&text, values); err != nil {
			return nil, err
		}
		out[t.Name()] = text.Bytes()
	}
	return out, nil
}

// writeConfiguration writes certificates, kubeconfigs and each component's own file.
func (c cluster) writeConfiguration() error {
	for _, dir := range []string{"conf/cni", "log", "kubelet", "etcd", "containerd"} {
		if err := os.MkdirAll(c.file(dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range volumes {
		if err := os.MkdirAll(c.file("volumes/"+name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(c.file("etcd"), 0o700); err != nil { // etcd insists
		return err
	}
	if err := c.writeCertificates(); err != nil {
		return err
	}
	for _, user := range []string{"controller-manager", "scheduler", "proxy", "kubelet"} {
		if err := c.writeKubeconfig(c.file("conf/"+user+".kubeconfig"), user); err != nil {
			return err
		}
	}
	if err := c.writeKubeconfig(c.file("kubeconfig"), "admin"); err != nil {
		return err
	}
	values, err := c.values()
	if err != nil {
		return err
	}
	written, err := render("conf", values)
	if err != nil {
		return err
	}
	for name, data := range written {
		if strings.HasSuffix(name, ".conflist") {
			name = filepath.Join("cni", name)
		}
		if err := os.WriteFile(c.file("conf/"+name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes a kubeconfig that holds everything itself, so that it may be copied elsewhere.
func (c cluster) writeKubeconfig(path, user string) error {
	data := map[string]string{"certificate-authority-data": "ca.crt", "client-certificate-data": user + ".crt", "client-key-data": user + ".key"}
	for field, file := range data {
		content, err := os.ReadFile(c.file("pki/" + file))
		if err != nil {
			return err
		}
		data[field] = base64.StdEncoding.EncodeToString(content)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster: {server: %[2]s, certificate-authority-data: %[4]s}
users:
- name: %[3]s
  user: {client-certificate-data: %[5]s, client-key-data: %[6]s}
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[3]s}
current-context: %[1]s
`, "heymarket-"+c.Name, c.server(), user, data["certificate-authority-data"], data["client-certificate-data"], data["client-key-data"])
	return os.WriteFile(path, []byte(text), 0o600)
}
