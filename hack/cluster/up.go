package main

import (
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"heymarket.dev/operator/hack/cluster/image"
)

// startLimit is how long a cluster may take to start, on a slow machine that does other things as well.
const startLimit = 4 * time.Minute

func up(ctx context.Context, name string) error {
	if err := checkHost(); err != nil {
		return err
	}
	if err := install(ctx, packages); err != nil {
		return err
	}
	built, err := compileAll(ctx, []string{"kube", "coredns", "traefik", "pause"})
	if err != nil {
		return err
	}
	archives, err := imageArchives(ctx, built, images)
	if err != nil {
		return err
	}
	p := newProgress("cluster")
	defer p.close()
	waiting := func() { p.step("another process starts or stops a cluster; waiting for it") }
	return locked(lockFile(), waiting, func() error {
		c, ok, err := recorded(name)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, startLimit)
		defer cancel()
		explain := func(err error) error {
			if err == nil || ctx.Err() != nil {
				return err
			}
			if errors.Is(limited.Err(), context.DeadlineExceeded) {
				err = fmt.Errorf("cluster %s was not ready within %s: %w", name, startLimit, err)
			}
			return fmt.Errorf("%w; its logs are in %s, `cluster down --name %s` removes it", err, c.file("log"), name)
		}
		if ok && c.running() {
			return explain(c.settle(limited, p, archives)) // an earlier start may have been interrupted
		}
		if ok { // it was killed, or the machine was switched off
			p.step("removing what a dead cluster left behind")
			if err := c.remove(ctx); err != nil {
				return err
			}
		}
		if c, err = start(limited, p, name, built["kube"]); err == nil {
			err = c.settle(limited, p, archives)
		}
		return explain(err)
	})
}

// lockFile is held while a cluster is started or stopped. It is not part of the state, which is removed with the last cluster.
func lockFile() string { return filepath.Join(os.TempDir(), "heymarket-operator-cluster.lock") }

// start makes the namespaces and sets going what is in them.
func start(ctx context.Context, p *progress, name, kube string) (cluster, error) {
	c := cluster{Name: name, Kube: kube}
	var err error
	if c.Slot, err = freeSlot(ctx); err != nil {
		return c, err
	}
	p.step("writing certificates and configuration")
	if err := os.MkdirAll(c.dir(), 0o755); err != nil {
		return c, err
	}
	if err := c.save(); err != nil { // from here on `down` knows which addresses are its
		return c, err
	}
	if err := c.writeConfiguration(); err != nil {
		return c, fmt.Errorf("configure cluster %s: %w", name, err)
	}
	if err := os.Symlink(kube, c.file("kubectl")); err != nil {
		return c, err
	}
	if err := makeCgroup(c.cgroup()); err != nil {
		return c, err
	}
	p.step("starting etcd, containerd and the API server")
	release, err := c.spawn()
	if err != nil {
		return c, err
	}
	defer release.Close()
	if err := c.save(); err != nil {
		return c, err
	}
	if err := c.connect(ctx); err != nil {
		if !c.running() {
			err = fmt.Errorf("cluster %s ended as it started: %s", name, c.initLog())
		}
		return c, err
	}
	if _, err := release.Write([]byte("!")); err != nil {
		return c, fmt.Errorf("start cluster %s: %w: %s", name, err, c.initLog())
	}
	return c, nil
}

// spawn starts the cluster's init and returns the pipe that it waits on.
func (c *cluster) spawn() (*os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	log, err := os.Create(c.file("log/init.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{"cluster", initCommand, c.Name, strconv.Itoa(c.Slot), c.Kube}, Dir: "/", Stdout: log, Stderr: log,
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		ExtraFiles: []*os.File{read}, // fdGo
		SysProcAttr: &syscall.SysProcAttr{
			Setsid: true, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w; inside a container that takes one that is privileged", err)
	}
	go func() { _ = cmd.Wait() }() // so that an init that ends early does not become a zombie, which would count as running
	c.PID = cmd.Process.Pid
	if c.Started, err = startTime(c.PID); err != nil {
		return nil, fmt.Errorf("start cluster %s: %w: %s", c.Name, err, c.initLog())
	}
	return write, nil
}

func (c cluster) initLog() string {
	data, err := os.ReadFile(c.file("log/init.log"))
	if err != nil || len(data) == 0 {
		return "no word from its init"
	}
	return lastLines(string(data), 3)
}

// settle brings a cluster that was started to where Pods run, names resolve and an Ingress is served. Done again, it changes nothing.
func (c cluster) settle(ctx context.Context, p *progress, archives []string) error {
	p.step("waiting for the API server")
	if err := c.awaitReady(ctx); err != nil {
		return err
	}
	p.step("loading images")
	began := time.Now()
	loaded, err := c.load(ctx, archives)
	if err != nil {
		return err
	}
	if loaded > 0 {
		p.say("%d images loaded in %.1f s", loaded, time.Since(began).Seconds())
	}
	p.step("starting DNS and the ingress controller")
	values, err := c.values()
	if err != nil {
		return err
	}
	manifests, err := render("manifests", values)
	if err != nil {
		return err
	}
	all := bytes.Join([][]byte{manifests["storage.yaml"], manifests["dns.yaml"], manifests["ingress.yaml"]}, []byte("\n---\n"))
	if err := c.kubectl(ctx, all, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		return fmt.Errorf("install DNS and the ingress controller: %w", err)
	}
	for _, wait := range []struct{ what, namespace, object string }{
		{"DNS", "kube-system", "deployment/coredns"}, {"ingress controller", "traefik", "deployment/traefik"},
	} {
		p.step("waiting for the %s", wait.what)
		if err := c.kubectl(ctx, nil, "rollout", "status", "--timeout=180s", "--namespace="+wait.namespace, wait.object); err != nil {
			return fmt.Errorf("wait for the %s: %w", wait.what, err)
		}
	}
	p.say("node, DNS and ingress controller are ready; cluster %s stands", c.Name)
	return nil
}

// awaitReady waits until the API server is ready.
func (c cluster) awaitReady(ctx context.Context) error {
	for {
		err := c.ready()
		if err == nil {
			return nil
		}
		if !c.running() {
			return fmt.Errorf("cluster %s ended as it started: %s", c.Name, c.initLog())
		}
		if wait(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("wait for the API server: %w", err)
		}
	}
}

func (c cluster) kubectl(ctx context.Context, stdin []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, c.Kube, args...)
	cmd.Args[0] = "kubectl"
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.file("kubeconfig"))
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(lastLines(string(out), 5)))
	}
	return nil
}

// ready asks the API server whether it is ready.
func (c cluster) ready() error {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(c.file("ca.crt"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(ca)
	admin, err := tls.LoadX509KeyPair(c.file("pki/admin.crt"), c.file("pki/admin.key"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server()+"/readyz?verbose", http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS12},
	}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 16<<10))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		var failing []string
		for line := range strings.Lines(string(body)) {
			if name, ok := strings.CutPrefix(line, "[-]"); ok {
				failing = append(failing, strings.Fields(name)[0])
			}
		}
		return fmt.Errorf("the API server says %d, %d of its checks fail: %s", answer.StatusCode, len(failing), strings.Join(failing[:min(3, len(failing))], ", "))
	}
	return nil
}

func load(ctx context.Context, name string, archives []string) error {
	c, err := standing(name)
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return errors.New("load takes the archives of images")
	}
	_, err = c.load(ctx, archives)
	return err
}

// load imports those images that the node does not have yet, and returns how many that were.
func (c cluster) load(ctx context.Context, archives []string) (int, error) {
	ctr := func(args ...string) (string, error) {
		return command(ctx, "ctr", append([]string{"--address", c.containerdSocket(), "--namespace", "k8s.io"}, args...)...)
	}
	var have string
	for {
		var err error
		if have, err = ctr("images", "list"); err == nil {
			break
		}
		if waited := wait(ctx, 100*time.Millisecond); waited != nil || !c.running() {
			return 0, fmt.Errorf("wait for containerd: %w", err)
		}
	}
	present := strings.Split(have, "\n")
	count := 0
	for _, archive := range archives {
		tag, digest, err := image.Inspect(archive)
		if err != nil {
			return count, err
		}
		if slices.ContainsFunc(present, func(line string) bool {
			return strings.HasPrefix(line, tag+" ") && strings.Contains(line, " "+digest+" ")
		}) {
			continue
		}
		absolute, err := filepath.Abs(archive)
		if err != nil {
			return count, err
		}
		if _, err := ctr("images", "import", absolute); err != nil {
			return count, fmt.Errorf("load image %s: %w", tag, err)
		}
		count++
	}
	return count, nil
}

// wait is a pause that ends with the context.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
