package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClustersSideBySideShareNoAddress(t *testing.T) {
	t.Parallel()
	var all []netip.Prefix
	for slot := range slots {
		c := cluster{Slot: slot}
		for _, own := range c.ranges() {
			if i := slices.IndexFunc(all, own.Overlaps); i >= 0 {
				t.Errorf("slot %d: %s overlaps %s", slot, own, all[i])
			}
			all = append(all, own)
		}
		if node := netip.MustParseAddr(c.nodeIP()); !c.ranges()[0].Contains(node) {
			t.Errorf("slot %d: node %s is outside of %s", slot, node, c.ranges()[0])
		}
		if dns := netip.MustParseAddr(c.service(10)); !c.ranges()[1].Contains(dns) {
			t.Errorf("slot %d: DNS %s is outside of %s", slot, dns, c.ranges()[1])
		}
	}
}

func TestRoutedReadsWhatIPSays(t *testing.T) {
	t.Parallel()
	const text = `default via 192.0.2.1 dev eth0
10.96.0.0/12 via 10.8.0.1 dev tun0
blackhole 10.244.1.0/24 metric 42000
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1

`
	want := []string{"10.96.0.0/12", "10.244.1.0/24", "192.0.2.0/24", "127.0.0.1/32"}
	var got []string
	for _, prefix := range routed(text) {
		got = append(got, prefix.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("routed = %q, want %q", got, want)
	}
}

func TestNamesOfClusters(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{"demo": true, "e2e": true, "12345678": true, "": false, "123456789": false, "a/b": false, "..": false, "Demo": false} {
		if validName.MatchString(name) != valid {
			t.Errorf("%q: valid is %v", name, !valid)
		}
	}
	if link := (cluster{Name: "12345678"}).link(); len(link) > 15 {
		t.Errorf("link %q is longer than the kernel takes", link)
	}
}

func TestStartTimeTellsProcessesApart(t *testing.T) {
	t.Parallel()
	own, err := startTime(os.Getpid())
	if err != nil || own == "" {
		t.Fatalf("startTime of this process: %q, %v", own, err)
	}
	if !(cluster{PID: os.Getpid(), Started: own}).running() || (cluster{PID: os.Getpid(), Started: own + "0"}).running() {
		t.Error("a process id that came again is taken for the cluster's")
	}
}

func TestFingerprintFollowsContentsAndNames(t *testing.T) {
	t.Parallel()
	write := func(name, content string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	of := func(words []string, files ...string) string {
		got, err := fingerprint(files, words...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	base := of(nil, write("a", "1"), write("b", "2"))
	for what, other := range map[string]string{
		"content": of(nil, write("a", "1"), write("b", "3")), "name": of(nil, write("a", "1"), write("c", "2")), "word": of([]string{"x"}, write("a", "1"), write("b", "2")),
	} {
		if other == base {
			t.Errorf("another %s has the same fingerprint", what)
		}
	}
	if _, err := fingerprint([]string{filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a missing file has a fingerprint")
	}
}

func TestAuthorityIssuesWhatTheIngressServes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := newAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{}
	if err := ca.issue("ingress", ca.cert.Subject, hooksDomain, "*."+hooksDomain, c.nodeIP()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "ingress.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for host, good := range map[string]bool{"staging." + hooksDomain: true, "10.213.0.2": true, "a.b." + hooksDomain: false, "example.com": false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != good {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestEveryTemplateIsFilledIn(t *testing.T) {
	t.Parallel()
	values := map[string]any{"Volumes": volumes}
	for _, name := range []string{"Dir", "Node", "NodeIP", "DNS", "PodRange", "Cgroup", "Containerd", "CNI", "Pause", "CoreDNS", "Traefik", "IngressCert", "IngressKey"} {
		values[name] = "<" + name + ">"
	}
	for _, dir := range []string{"conf", "manifests"} {
		rendered, err := render(dir, values)
		if err != nil {
			t.Fatal(err)
		}
		if len(rendered) < 3 {
			t.Errorf("%s: %d files", dir, len(rendered))
		}
		for name, text := range rendered {
			if bytes.Contains(text, []byte("{{")) || bytes.Contains(text, []byte("<no value>")) {
				t.Errorf("%s/%s is not filled in:\n%s", dir, name, text)
			}
		}
	}
}

func TestTimeLeftFollowsThePace(t *testing.T) {
	t.Parallel()
	p := &progress{total: 1000, links: 2, compileBegan: time.Now().Add(-100 * time.Second)}
	p.last = 500
	if left := p.left(); left < 125*time.Second || left > 135*time.Second { // 100 s for the other half, 30 s to link two
		t.Errorf("%s left", left)
	}
	p.last, p.links = 1000, 0
	if left := p.left(); left > 2*time.Second {
		t.Errorf("%s left at the end", left)
	}
}

func TestWhatTheCommandLineRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"fly"}, {"up", "--name", "Not/A/Name"}, {"up", "--nonsense"}, {"image"}, {"build", "nonsense"}, {"load", "--name", "none"}, {"kubeconfig", "--name", "none"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want an error of one line", args, err)
		}
	}
}
