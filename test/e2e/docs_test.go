//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/test/support/quickstart"
	"heymarket.dev/operator/test/surface/docs"
)

const (
	// blockLimit is for the commands of one block; some of them wait for a roll-out.
	blockLimit = 4 * time.Minute
	// lookLimit is for those that look until it is so: a status follows within two minutes.
	lookLimit = 3 * time.Minute
)

// alone are the pages whose commands are about the whole cluster.
var alone = []string{"install"}

// fromNothing are the pages that make their namespaces themselves. The others go on from the quickstart in the namespace staging.
var fromNothing = []string{"first-webhook", "environments", "install"}

// TestDocumentation executes every command of README.md and docs, except those that give a reason not to, each page in namespaces of its own.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	book := openBook(t)
	for _, page := range book.pages {
		if !page.Executed() || slices.Contains(alone, page.Name()) {
			continue
		}
		t.Run(page.Name(), func(t *testing.T) {
			t.Parallel()
			book.play(t, page)
		})
	}
}

// TestInstalling executes docs/install.md on a cluster without the operator.
//
// It is not parallel: the operator that the other tests use is away meanwhile.
func TestInstalling(t *testing.T) {
	book := openBook(t)
	if err := os.Symlink(newRelease(t).helm, filepath.Join(book.programs, "helm")); err != nil {
		t.Fatal(err)
	}
	remove := func(ctx context.Context) {
		t.Helper()
		if _, err := cluster.RunKubectl(ctx, "", "delete", "--ignore-not-found", "--kustomize", filepath.Join(book.root, "config", "default")); err != nil {
			t.Fatal(err)
		}
	}
	remove(t.Context())
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		remove(ctx)
		if err := cluster.InstallOperator(ctx); err != nil {
			t.Fatal(err)
		}
	}()
	book.play(t, book.pages[slices.IndexFunc(book.pages, func(p docs.Page) bool { return p.Path == "docs/install.md" })])
}

// book is the documentation and what its reader has: a checkout, and programs on the PATH.
type book struct {
	root     string
	pages    []docs.Page
	programs string // directory
}

func openBook(t *testing.T) book {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	b := book{root: root, programs: t.TempDir()}
	if b.pages, err = docs.Read(root); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(cluster.Kubectl, filepath.Join(b.programs, "kubectl")); err != nil {
		t.Fatal(err)
	}
	buildPlugin(t, b.programs)
	return b
}

// buildPlugin builds the plugin into a directory, by the flags of the images, so that the two share what is compiled.
func buildPlugin(t *testing.T, dir string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/kubectl-heymarket")
	build.Dir, build.Env = driver.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
}

var pageNamespaces = regexp.MustCompile(`\b(staging|production)\b`)

// play executes the blocks of a page in one shell, in a copy of the checkout. The page's namespace staging is replaced by one of its own.
func (b book) play(t *testing.T, page docs.Page) {
	t.Helper()
	mark := fmt.Sprintf("doc-%s-%d-", page.Name(), ids.Add(1)%1_000_000)
	repository, tag, _ := strings.Cut(cluster.Image.Name, ":")
	stands := strings.NewReplacer(
		"registry.example.com/heymarket-operator", repository,
		"redis://:password@redis.example.com:6379/0", "redis://redis.redis.svc.cluster.local:6379/0",
	)
	in := func(text string) string { return pageNamespaces.ReplaceAllString(stands.Replace(text), mark+"$1") }
	out := func(text string) string { return strings.ReplaceAll(text, mark, "") }
	staging := mark + quickstart.Namespace
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			tell(ctx, t, staging)
		}
		if said, err := cluster.RunKubectl(ctx, "", "delete", "namespace", "--ignore-not-found", "--wait=false", staging, mark+"production"); err != nil {
			t.Errorf("%v: %s", err, said)
		}
	})
	if !slices.Contains(fromNothing, page.Name()) {
		if err := cluster.ApplyQuickstart(t.Context(), staging); err != nil {
			t.Fatal(err)
		}
		if err := cluster.AwaitReady(t.Context(), staging, 2*time.Minute); err != nil {
			t.Fatal(err)
		}
	}

	dir, home := t.TempDir(), t.TempDir()
	b.checkOut(t, dir, tag, in)
	kubeconfig, err := os.ReadFile(cluster.Kubeconfig) // a copy: pages set its namespace
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "kubeconfig"), kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	session, err := docs.Start(dir, t.TempDir(), []string{
		"PATH=" + b.programs + ":" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "kubeconfig"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.End)
	run := 0
	for i, block := range page.Blocks {
		if block.File != "" {
			if err := os.WriteFile(filepath.Join(dir, block.File), []byte(in(block.Text)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if block.Language != "sh" || block.NotRun != "" {
			continue
		}
		want := docs.Wildcard
		if i+1 < len(page.Blocks) && page.Blocks[i+1].Language == "text" {
			want = page.Blocks[i+1].Text
		}
		began := time.Now()
		said, err := perform(t.Context(), session, block, in(block.Text), func(said string) bool { return docs.Matches(want, out(said)) })
		if err != nil {
			t.Fatalf("%s: %v\n%s\nprints\n%s", page.Where(block), err, block.Text, out(said))
		}
		if !docs.Matches(want, out(said)) {
			t.Fatalf("%s: prints\n%s\nand not, as the page says,\n%s", page.Where(block), out(said), want)
		}
		t.Logf("%s: %s", page.Where(block), time.Since(began).Round(100*time.Millisecond))
		run++
	}
	t.Logf("%d blocks executed", run)
}

func perform(ctx context.Context, session *docs.Session, block docs.Block, commands string, wanted func(string) bool) (string, error) {
	if block.Retried {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		return session.Retry(ctx, commands, wanted)
	}
	ctx, cancel := context.WithTimeout(ctx, blockLimit)
	defer cancel()
	return session.Run(ctx, commands)
}

// bundledRedis is the line of the chart's values that names the image of its own Redis.
var bundledRedis = regexp.MustCompile(`image: docker\.io/library/redis:\S+`)

var appVersion = regexp.MustCompile(`(?m)^appVersion: .*$`)

// checkOut copies what pages use of the checkout, with the names of images that the cluster has.
func (b book) checkOut(t *testing.T, dir, tag string, in func(string) string) {
	t.Helper()
	for _, part := range []string{"examples", "charts", "config"} {
		err := filepath.WalkDir(filepath.Join(b.root, part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(b.root, path)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, relative)
			if entry.IsDir() {
				return os.MkdirAll(to, 0o755)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text := cluster.Image.In(string(data))
			switch part {
			case "examples":
				text = in(text)
			case "charts":
				text = appVersion.ReplaceAllLiteralString(text, "appVersion: "+tag)
				text = bundledRedis.ReplaceAllLiteralString(text, "image: heymarket.dev/cluster/redis:dev")
			}
			return os.WriteFile(to, []byte(text), 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
