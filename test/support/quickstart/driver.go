// Package quickstart is shared by `make demo` and the end-to-end tests: bring up a cluster, install the operator from this checkout, and play
// Heymarket on one side of it and a target on the other.
package quickstart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ErrSaid is wrapped by errors of a program that has already printed the reason on standard error.
var ErrSaid = errors.New("see above")

// Driver runs the program of hack/cluster for one cluster.
type Driver struct {
	Root string // of the checkout
	Name string // of the cluster
	Out  io.Writer
}

// NewDriver builds the program. Progress and complaints of what it runs go to out; on a terminal they are shown as on one.
func NewDriver(ctx context.Context, name string, out io.Writer) (*Driver, error) {
	root, err := checkout()
	if err != nil {
		return nil, err
	}
	d := &Driver{Root: root, Name: name, Out: out}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", d.bin("cluster"), ".")
	cmd.Dir = filepath.Join(root, "hack", "cluster")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build hack/cluster: %w: %s", err, bytes.TrimSpace(text))
	}
	return d, nil
}

// checkout is the root of the repository around the working directory.
func checkout() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack", "cluster", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of the repository; change to one", here)
		}
	}
}

func (d *Driver) bin(name string) string { return filepath.Join(d.Root, "bin", name) }

// Run runs a command of the program and returns what it prints.
func (d *Driver) Run(ctx context.Context, command string, args ...string) (string, error) {
	return d.runIn(ctx, d.Root, command, args...)
}

func (d *Driver) runIn(ctx context.Context, dir, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.bin("cluster"), append([]string{command}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = d.Out
	// It is asked to stop, not killed: it may be holding a half-made cluster.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("`cluster %s` failed (%w): %w", command, err, ErrSaid)
	}
	return strings.TrimSpace(string(out)), nil
}

// Up starts the cluster, or finds it standing.
func (d *Driver) Up(ctx context.Context) error {
	_, err := d.Run(ctx, "up", "--name", d.Name)
	return err
}

// Down ends the cluster and everything that belongs to it.
func (d *Driver) Down(ctx context.Context) error {
	_, err := d.Run(ctx, "down", "--name", d.Name)
	return err
}

// Snapshot is everything on the host that a cluster could leave behind, as text.
func (d *Driver) Snapshot(ctx context.Context) (string, error) { return d.Run(ctx, "snapshot") }

// Standing is where a standing cluster is to be found.
type Standing struct {
	Kubeconfig string // path
	CA         string // path of the certificate that the Ingress is verified by
	Kubectl    string // path of a kubectl of the cluster's version
	Node       string // address
}

// Standing asks where the cluster is.
func (d *Driver) Standing(ctx context.Context) (Standing, error) {
	text, err := d.Run(ctx, "status", "--name", d.Name)
	if err != nil {
		return Standing{}, err
	}
	facts := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 {
			facts[fields[0]] = fields[1]
		}
	}
	return Standing{Kubeconfig: facts["kubeconfig"], CA: facts["ca"], Kubectl: facts["kubectl"], Node: facts["node"]}, nil
}

// Image is the operator's image of this checkout: its full name, with a tag made from its contents, and the archives that hold it,
// under that name and under the one in examples/quickstart, which users apply unchanged.
type Image struct {
	Name     string
	Archives []string
}

// Image builds the operator's image. Its receiver is the target of the quickstart as well.
func (d *Driver) Image(ctx context.Context) (Image, error) {
	name, archive, err := d.OperatorImage(ctx, d.Root)
	if err != nil {
		return Image{}, err
	}
	_, plain, err := d.pack(ctx, filepath.Dir(archive), "operator-dev.tar", "dev")
	return Image{Name: name, Archives: []string{archive, plain}}, err
}

// OperatorImage builds the operator's image from a checkout, such as one of an earlier release, and returns its full name and the archive that holds it.
func (d *Driver) OperatorImage(ctx context.Context, checkout string) (name, archive string, err error) {
	dir := filepath.Join(checkout, "bin", "image")
	if _, err := d.runIn(ctx, checkout, "compile", "-o", dir, "./cmd/manager", "./cmd/receiver"); err != nil {
		return "", "", err
	}
	return d.pack(ctx, dir, "operator.tar", "dev-{digest}")
}

// pack makes an image of the binaries in a folder.
func (d *Driver) pack(ctx context.Context, dir, file, tag string) (name, archive string, err error) {
	archive = filepath.Join(dir, file)
	args := []string{"-o", archive, "-t", operatorImage + ":" + tag, filepath.Join(dir, "manager") + "=/manager", filepath.Join(dir, "receiver") + "=/receiver"}
	// Targets with https:// URLs are verified by the roots that the building machine trusts.
	const roots = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(roots); err == nil {
		args = append(args, roots+"="+roots)
	}
	name, err = d.Run(ctx, "image", args...)
	return name, archive, err
}

// Load makes the images in archives known to the cluster. Those that it has already cost nothing.
func (d *Driver) Load(ctx context.Context, archives ...string) error {
	_, err := d.Run(ctx, "load", append([]string{"--name", d.Name}, archives...)...)
	return err
}

// operatorImage is the image's name as the manifests have it, less the tag.
const operatorImage = "heymarket.dev/operator"

var imageInManifest = regexp.MustCompile(`heymarket\.dev/operator:[\w.-]+`)

// In puts the image's own tag in the place of the one in a manifest, so that a Deployment changes, and rolls, with its image.
func (i Image) In(manifest string) string { return imageInManifest.ReplaceAllString(manifest, i.Name) }
