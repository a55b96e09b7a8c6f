// Package apiservertest provides tests with a real kube-apiserver with its etcd and this repository's CRDs.
package apiservertest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"heymarket.dev/operator/internal/testenv"
)

const (
	// assetsVariable names the directory with the binaries etcd and kube-apiserver.
	assetsVariable = "KUBEBUILDER_ASSETS"
	// requireVariable, set to 1, turns skipped tests into failures.
	requireVariable = "HEYMARKET_REQUIRE_ALL"
)

var shared struct {
	once  sync.Once
	env   *envtest.Environment
	err   error
	users sync.Mutex
}

// Main runs the tests of a package, and stops the API server if one of them has started it. TestMain calls it.
func Main(m *testing.M) {
	code := m.Run()
	if shared.env != nil {
		if err := shared.env.Stop(); err != nil {
			println("stop the API server:", err.Error())
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Config returns an administrator's configuration for the package's API server; the first call starts it.
// Without binaries the test is skipped, or fails if HEYMARKET_REQUIRE_ALL=1.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	if os.Getenv(assetsVariable) == "" {
		const sentence = "needs a kube-apiserver and etcd in " + assetsVariable + "; `make test` builds and sets them"
		if os.Getenv(requireVariable) == "1" {
			t.Fatal(sentence)
		}
		t.Skip(sentence)
	}
	shared.once.Do(start)
	if shared.err != nil {
		t.Fatalf("start the API server: %v", shared.err)
	}
	return rest.CopyConfig(shared.env.Config)
}

// Kubeconfig writes an administrator's kubeconfig to a file, for programs that a test runs.
func Kubeconfig(t testing.TB, path string) {
	t.Helper()
	Config(t)
	if err := os.WriteFile(path, shared.env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
}

// User returns a configuration for a user who has only the rights that are bound to this name.
func User(t testing.TB, name string) *rest.Config {
	t.Helper()
	Config(t)
	shared.users.Lock() // the numbers of envtest's certificates are not for concurrent use
	user, err := shared.env.AddUser(envtest.User{Name: name}, nil)
	shared.users.Unlock()
	if err != nil {
		t.Fatalf("add user %s: %v", name, err)
	}
	return user.Config()
}

func start() {
	env, err := Environment()
	if err != nil {
		shared.err = err
		return
	}
	// Enough addresses for the Services of some thousand plans.
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.64.0.0/16")
	cfg, err := env.Start()
	shared.env = env // Even a failed start may have left a process behind, which Main stops.
	if err != nil {
		shared.err = err
		return
	}
	cfg.QPS = -1
}

// Environment returns an API server and an etcd with this repository's CRDs, neither started yet. Once started they end with
// this process, on Linux even if it is killed. Its error is that of testenv.Root.
func Environment() (*envtest.Environment, error) {
	root, err := testenv.Root()
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
	servers := filepath.Join(root, "internal", "apiservertest", "servers")
	env.ControlPlane.Etcd = &envtest.Etcd{Path: filepath.Join(servers, "etcd")}
	env.ControlPlane.GetAPIServer().Path = filepath.Join(servers, "kube-apiserver")
	return env, nil
}
