package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// hooksDomain is where the Ingress of a demo listens: "<namespace>." and this. The .test names are reserved and resolve nowhere (RFC 6761).
const hooksDomain = "hooks.heymarket.test"

// authority signs the certificates of one cluster. They last a year, which no demo does.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(dir, name string) (*authority, error) {
	a := &authority{dir: dir}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key, der, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	a.key = key
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return a, a.write(name, key, der)
}

// issue writes NAME.crt and NAME.key. A name or address makes it good for a server, none makes it a client's.
func (a *authority) issue(name string, subject pkix.Name, hosts ...string) error {
	template := &x509.Certificate{
		Subject: subject, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	key, der, err := a.sign(template)
	if err != nil {
		return fmt.Errorf("issue certificate %s: %w", name, err)
	}
	return a.write(name, key, der)
}

func (a *authority) sign(template *x509.Certificate) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	return key, der, err
}

func (a *authority) write(name string, key *ecdsa.PrivateKey, der []byte) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// writeCertificates writes everything that the components show to one another.
func (c cluster) writeCertificates() error {
	dir := c.file("pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir, "ca")
	if err != nil {
		return err
	}
	front, err := newAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	server := pkix.Name{CommonName: "kube-apiserver"}
	for _, issue := range []func() error{
		func() error {
			return ca.issue("apiserver", server, c.nodeIP(), c.service(1), "127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
		},
		func() error {
			return ca.issue("kubelet-server", pkix.Name{CommonName: nodeName}, c.nodeIP(), "127.0.0.1", nodeName)
		},
		func() error {
			return ca.issue("kubelet", pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}})
		},
		func() error {
			return ca.issue("apiserver-kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}})
		},
		func() error {
			return ca.issue("controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"})
		},
		func() error { return ca.issue("scheduler", pkix.Name{CommonName: "system:kube-scheduler"}) },
		func() error { return ca.issue("proxy", pkix.Name{CommonName: "system:kube-proxy"}) },
		func() error {
			return ca.issue("admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
		},
		func() error { return ca.issue("service-account", pkix.Name{CommonName: "service-account"}) },
		func() error {
			return ca.issue("ingress", pkix.Name{CommonName: hooksDomain}, hooksDomain, "*."+hooksDomain)
		},
		func() error { return front.issue("front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}) },
	} {
		if err := issue(); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return err
	}
	return os.WriteFile(c.file("ca.crt"), data, 0o644)
}
