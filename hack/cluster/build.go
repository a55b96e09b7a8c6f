package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"heymarket.dev/operator/hack/cluster/image"
)

const kubernetesVersion = "v1.37.1"

// binary is a program that is compiled into the cache.
type binary struct {
	name    string
	module  string // directory of its go.mod, below the driver's own
	main    string // package, as `go build` takes it
	ldflags string
	tags    string
	prepare func(ctx context.Context, dir string) error // completes a copy of the module directory, which is then built instead
}

var binaries = []binary{
	{name: "kube", main: "./kube", ldflags: "-X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 -X k8s.io/component-base/version.gitTreeState=clean"},
	{name: "coredns", main: "./coredns"},
	{name: "traefik", module: "traefik", main: "github.com/traefik/traefik/v3/cmd/traefik", prepare: copyLego},
	{name: "pause", main: "./pause"},

	// What platform teams run beside the operator, for `make e2e-neighbours`.
	{name: "cert-manager", module: "certmanager", main: "./controller"},
	{name: "keda-operator", module: "keda", main: "github.com/kedacore/keda/v2/cmd/operator", prepare: copyKEDA},
	{name: "keda-adapter", module: "keda", main: "github.com/kedacore/keda/v2/cmd/adapter", prepare: copyKEDA},
	{name: "metrics-server", module: "metricsserver", main: "sigs.k8s.io/metrics-server/cmd/metrics-server"},
	{name: "network-policies", module: "networkpolicies", main: "sigs.k8s.io/kube-network-policies/cmd"},
	{name: "prometheus", module: "prometheus", main: "github.com/prometheus/prometheus/cmd/prometheus", tags: "remove_all_sd,enable_kubernetes_sd"},
	{name: "dial", main: "./dial"},
}

// images are the images of the cluster's own Pods. Each is named by its contents, so that what is loaded once is never loaded again.
var images = []string{"coredns", "traefik", "pause", "redis"}

func findBinary(name string) (binary, bool) {
	i := slices.IndexFunc(binaries, func(b binary) bool { return b.name == name })
	if i < 0 {
		return binary{}, false
	}
	return binaries[i], true
}

func binaryNames() []string {
	names := make([]string, 0, len(binaries))
	for _, b := range binaries {
		names = append(names, b.name)
	}
	return names
}

// commandArchive builds programs and prints the archive of each one's image.
func commandArchive(ctx context.Context, out io.Writer, names []string) error {
	for _, name := range names {
		if _, ok := findBinary(name); !ok {
			return fmt.Errorf("%q is no program; there are %s", name, strings.Join(binaryNames(), ", "))
		}
	}
	built, err := compileAll(ctx, names)
	if err != nil {
		return err
	}
	archives, err := imageArchives(ctx, built, names)
	for _, archive := range archives {
		fmt.Fprintln(out, archive)
	}
	return err
}

func commandBuild(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = []string{"kube", "coredns", "traefik", "pause", "redis"}
	}
	var compile []string
	for _, name := range names {
		if _, ok := findBinary(name); ok {
			compile = append(compile, name)
		} else if name != "redis" {
			return fmt.Errorf("%q is nothing that can be built; there are redis, %s", name, strings.Join(binaryNames(), ", "))
		}
	}
	built, err := compileAll(ctx, compile)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == "redis" {
			if built[name], err = redisImage(ctx); err != nil {
				return err
			}
		}
		fmt.Println(built[name])
	}
	return nil
}

// compileAll returns the path of each binary, after building those that the cache lacks.
func compileAll(ctx context.Context, names []string) (map[string]string, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	source, err := sourceDir()
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	var missing []string
	for _, name := range names {
		b, _ := findBinary(name)
		files, err := b.sources(source)
		if err != nil {
			return nil, err
		}
		hash, err := fingerprint(files, b.main, b.ldflags+b.tags)
		if err != nil {
			return nil, err
		}
		paths[name] = filepath.Join(cache, name+"-"+hash)
		if !exists(paths[name]) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return paths, nil
	}
	p := newProgress("build")
	defer p.close()
	wait := func() { p.step("another process builds %s; waiting for it", strings.Join(missing, ", ")) }
	return paths, locked(filepath.Join(cache, "build.lock"), wait, func() error {
		return compile(ctx, p, source, cache, missing, paths)
	})
}

func compile(ctx context.Context, p *progress, source, cache string, names []string, paths map[string]string) error {
	// The list of packages is known before the first one is compiled, so that the remaining time can be shown from the start.
	plans := map[string]plan{}
	stale := map[string]bool{}
	for _, name := range names {
		if exists(paths[name]) {
			continue // the process that held the lock has built it
		}
		b, _ := findBinary(name)
		dir, err := b.directory(ctx, source, cache)
		if err != nil {
			return err
		}
		packages, err := stalePackages(ctx, p, b, dir)
		if err != nil {
			return err
		}
		plans[name] = plan{b, dir, packages}
		for _, pkg := range packages {
			stale[pkg] = true
		}
	}
	p.expect(len(stale), len(plans))
	for _, name := range names {
		if plan, ok := plans[name]; ok {
			if err := plan.build(ctx, p, paths[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// commandCompile builds programs of the module around the working directory, small and static, as they go into an image.
func commandCompile(ctx context.Context, to string, packages []string) error {
	if to == "" || len(packages) == 0 {
		return errors.New("compile takes -o DIR and the packages of programs")
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	p := newProgress("build")
	defer p.close()
	var plans []plan
	stale := map[string]bool{}
	for _, main := range packages {
		b := binary{name: filepath.Base(main), main: main}
		packages, err := stalePackages(ctx, p, b, here)
		if err != nil {
			return err
		}
		for _, pkg := range packages {
			stale[pkg] = true
		}
		plans = append(plans, plan{b, here, packages})
	}
	p.expect(len(stale), len(plans))
	for _, plan := range plans {
		if err := plan.compile(ctx, p, filepath.Join(to, plan.name)); err != nil {
			return err
		}
	}
	return nil
}

type plan struct {
	binary
	dir   string
	stale []string
}

// sources are the files that decide what the binary is.
func (b binary) sources(source string) ([]string, error) {
	module := filepath.Join(source, b.module)
	files := []string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}
	if !strings.HasPrefix(b.main, "./") {
		return files, nil
	}
	code, err := filepath.Glob(filepath.Join(module, b.main, "*.go"))
	if err == nil && len(code) == 0 {
		err = fmt.Errorf("%s holds no Go files", filepath.Join(module, b.main))
	}
	return append(files, code...), err
}

// directory is where the binary is built: its module, or a completed copy of it.
func (b binary) directory(ctx context.Context, source, cache string) (string, error) {
	module := filepath.Join(source, b.module)
	if b.prepare == nil {
		return module, nil
	}
	dir := filepath.Join(cache, "src", b.name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return dir, b.prepare(ctx, dir)
}

// goCommand is the Go that runs in dir with an environment that gives everybody the same binary.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// stalePackages names the packages that the build cache does not hold, after downloading the modules that they are in.
func stalePackages(ctx context.Context, p *progress, b binary, dir string) ([]string, error) {
	p.step("%s: reading what it is made of", b.name)
	cmd := goCommand(ctx, dir, "list", "-deps", "-trimpath", "-tags", b.tags, "-f", `{{if and .Stale (ne .StaleReason "not installed but available in build cache")}}{{.Dir}}{{end}}`, b.main)
	downloads := 0
	var out, failure bytes.Buffer
	cmd.Stdout = &out
	err := eachLine(cmd, func(line string) {
		if module, ok := strings.CutPrefix(line, "go: downloading "); ok {
			downloads++
			p.step("%s: module %d, %s", b.name, downloads, module)
		} else {
			fmt.Fprintln(&failure, line)
		}
	})
	if err != nil {
		return nil, buildError(b.name, err, failure.String(), "downloading its modules takes a Go module proxy (`go env GOPROXY`)")
	}
	return strings.Fields(out.String()), nil
}

func (b plan) build(ctx context.Context, p *progress, to string) error {
	temporary := to + ".new"
	defer os.Remove(temporary)
	if err := b.compile(ctx, p, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, to); err != nil {
		return err
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	p.say("%s: built, %d MB", b.name, info.Size()>>20)
	return prune(to)
}

func (b plan) compile(ctx context.Context, p *progress, to string) error {
	cmd := goCommand(ctx, b.dir, "build", "-v", "-trimpath", "-tags", b.tags, "-ldflags", strings.TrimSpace("-s -w "+b.ldflags), "-o", to, b.main)
	compiled := 0
	var failure bytes.Buffer
	p.compiling(b.name, 0, len(b.stale))
	err := eachLine(cmd, func(line string) {
		if strings.ContainsAny(line, " \t:") {
			fmt.Fprintln(&failure, line) // a package's path holds none of these: it is an error
			return
		}
		compiled++
		p.compiling(b.name, compiled, len(b.stale))
	})
	if err != nil {
		remedy := "the lines above say where"
		if text := failure.String(); strings.Contains(text, "killed") || strings.Contains(text, "no space left") || strings.Contains(text, "cannot allocate") {
			remedy = "the machine ran short of memory or disk; free some and run the same command again: it goes on from where it was"
		}
		return buildError(b.name, err, failure.String(), remedy)
	}
	p.linked()
	return nil
}

// prune removes what earlier versions of the same thing left in the cache, save for what is younger than a week: another checkout may use it.
func prune(path string) error {
	name := path[:strings.LastIndex(path, "-")+1]
	old, err := filepath.Glob(name + "[0-9a-f]*")
	if err != nil {
		return err
	}
	for _, file := range old {
		if info, err := os.Stat(file); err == nil && file != path && time.Since(info.ModTime()) > 7*24*time.Hour {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// eachLine runs a command and passes on its standard error line by line.
func eachLine(cmd *exec.Cmd, line func(string)) error {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(stderr)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line(scanner.Text())
	}
	_, _ = io.Copy(io.Discard, stderr)
	return cmd.Wait()
}

func buildError(name string, err error, output, remedy string) error {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) > 20 {
		lines = append(lines[:20], "…")
	}
	return fmt.Errorf("%s\nbuilding %s failed (%w); %s", strings.Join(lines, "\n"), name, err, remedy)
}

// copyLego puts lego's code beside Traefik's go.mod, without the DNS providers: they pull in the SDK of every cloud, 850 packages, for
// certificates that this cluster never asks for.
func copyLego(ctx context.Context, dir string) error {
	// A module of its own, because a replaced one is neither downloaded nor checked: its sums stand here instead of in a go.sum.
	const module, version = "github.com/go-acme/lego/v4", "v4.33.0"
	const sums = module + " " + version + " h1:2KrRKieG+VczT4zvVXKAY7Tp/S3XLvh/QImofBALRAM=\n" +
		module + " " + version + "/go.mod h1:lI2fZNdgeM/ymf9xQ9YKbgZm6MeDuf91UrohMQE4DhI=\n"
	fetch := filepath.Join(dir, "fetch")
	if err := os.MkdirAll(fetch, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"go.mod": "module fetch\n\ngo 1.26.0\n\nrequire " + module + " " + version + "\n", "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(fetch, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	to := filepath.Join(dir, "lego")
	leaveOut := func(name string) bool { return name == filepath.Join("providers", "dns") }
	if err := copyModule(ctx, fetch, module, to, leaveOut); err != nil {
		return err
	}
	const none = `// Package dns stands for lego's DNS providers and holds none.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v4/challenge"
)

// NewDNSChallengeProviderByName knows no provider.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("unrecognized DNS provider: %s", name)
}
`
	if err := os.MkdirAll(filepath.Join(to, "providers", "dns"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "providers", "dns", "dns.go"), []byte(none), 0o644)
}

// copyKEDA puts KEDA's code beside its go.mod with the scalers that the operator uses, and without those of other people's services: their SDKs are
// most of its 3,700 packages. Where it chooses a scaler KEDA's source has marks, because upstream generates from these lines.
func copyKEDA(ctx context.Context, dir string) error {
	const module = "github.com/kedacore/keda/v2"
	to := filepath.Join(dir, "keda")
	kept := []string{"scaler.go", "cpu_memory_scaler.go", "metrics_api_scaler.go"}
	err := copyModule(ctx, dir, module, to, func(name string) bool {
		parent, file := filepath.Split(name)
		return parent == filepath.Join("pkg", "scalers")+"/" && strings.HasSuffix(file, ".go") && !slices.Contains(kept, file)
	})
	if err != nil {
		return err
	}
	builder := filepath.Join(to, "pkg", "scaling", "scalers_builder.go")
	code, err := os.ReadFile(builder)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(code), "// TRIGGERS-START")
	_, after, ended := strings.Cut(rest, "// TRIGGERS-END")
	if !begun || !ended {
		return fmt.Errorf("%s has no marks around its scalers", builder)
	}
	for name, text := range map[string]string{
		builder: before + `switch triggerType {
	case "cpu":
		return scalers.NewCPUMemoryScaler(corev1.ResourceCPU, config)
	case "metrics-api":
		return scalers.NewMetricsAPIScaler(config, client)
	}
	return nil, fmt.Errorf("no scaler of type %q is built in here", triggerType)
` + after,
		filepath.Join(to, "pkg", "scalers", "kept.go"): "package scalers\n\nconst externalMetricType = \"External\"\n", // it is declared with a scaler that is left out
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, "go.mod")
	requirements, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(requirements, "\nreplace "+module+" => ./keda\n"...), 0o644)
}

// copyModule copies a module, in the version that the go.mod in dir requires, but for the files and folders that are left out.
func copyModule(ctx context.Context, dir, module, to string, leaveOut func(name string) bool) error {
	out, err := goCommand(ctx, dir, "mod", "download", "-json", module).Output()
	if err != nil {
		return fmt.Errorf("download %s: %w: %s; it takes a Go module proxy (`go env GOPROXY`)", module, err, lastLines(string(out), 5))
	}
	_, from, ok := strings.Cut(string(out), `"Dir": "`)
	from, _, _ = strings.Cut(from, `"`)
	if !ok {
		return fmt.Errorf("download %s: no directory in the answer", module)
	}
	err = filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case leaveOut(name) && entry.IsDir():
			return filepath.SkipDir
		case leaveOut(name):
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o644)
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", module, err)
	}
	return nil
}

// sourceDir is the directory of this module: where the driver was compiled from, or else the one of the checkout around the working directory.
func sourceDir() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	candidates := []string{filepath.Dir(file)}
	if here, err := os.Getwd(); err == nil {
		for dir := here; ; dir = filepath.Dir(dir) {
			candidates = append(candidates, dir, filepath.Join(dir, "hack", "cluster"))
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	for _, dir := range candidates {
		if exists(filepath.Join(dir, "kube", "main.go")) && exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
	}
	return "", errors.New("the sources in hack/cluster are not to be found; run this inside a checkout of the repository")
}

// imageArchives returns an image archive for each of the cluster's own images, after making those that the cache lacks.
func imageArchives(ctx context.Context, built map[string]string, names []string) ([]string, error) {
	var archives []string
	for _, name := range names {
		if name == "redis" {
			archive, err := redisImage(ctx)
			if err != nil {
				return nil, err
			}
			archives = append(archives, archive)
			continue
		}
		archive := built[name] + ".tar"
		if !exists(archive) {
			spec := image.Spec{Tag: imageName(name), Entrypoint: []string{"/" + name}, Files: map[string]string{"/" + name: built[name]}}
			if _, err := writeImage(archive, spec); err != nil {
				return nil, fmt.Errorf("make the image of %s: %w", name, err)
			}
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

func imageName(name string) string { return "heymarket.dev/cluster/" + name + ":dev" }

// assets is a directory as envtest wants it.
func assets(ctx context.Context) (string, error) {
	names := []string{"etcd", "kube-apiserver", "kubectl"}
	complete := func(dir string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return !exists(filepath.Join(dir, name)) })
	}
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" && complete(dir) {
		return dir, nil
	}
	built, err := compileAll(ctx, []string{"kube"})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(built["kube"]), "assets-"+filepath.Base(built["kube"]))
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range names {
		if err := os.Symlink(built["kube"], filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return dir, nil
}

// progress shows the progress of a long build: on a terminal in one line that changes, otherwise in a line every ten seconds.
type progress struct {
	mu       sync.Mutex
	began    time.Time
	title    string
	text     string
	terminal bool
	stop     chan struct{}

	total, links   int    // packages to compile and programs to link in all
	finished, last int    // packages compiled by the programs before this one; and by this one
	program        string // being built, or "" if text describes the work
	packages       int    // of this program, to compile
	compileBegan   time.Time
	lastPackage    time.Time // when it came
}

// Seconds for one package on one core, from builds of these very programs, until the build at hand has its own figure; and for linking one program.
const (
	secondsPerPackage = 0.25
	secondsPerLink    = 15
)

func newProgress(title string) *progress {
	info, err := os.Stderr.Stat()
	p := &progress{began: time.Now(), title: title, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, stop: make(chan struct{})}
	every := 10 * time.Second
	if p.terminal {
		every = time.Second
	}
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.mu.Lock()
				p.show()
				p.mu.Unlock()
			}
		}
	}()
	return p
}

func (p *progress) step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, args...)
}

func (p *progress) expect(packages, links int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.links, p.compileBegan = packages, links, time.Now()
	if packages > 100 {
		p.print(fmt.Sprintf("%d packages to compile on %d cores, about %s; this happens once", packages, runtime.NumCPU(), p.left()))
	}
}

func (p *progress) compiling(name string, compiled, of int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.program, p.last, p.packages, p.lastPackage = name, compiled, of, time.Now()
}

// now returns the work in progress, or "".
func (p *progress) now() string {
	switch {
	case p.program == "":
		return p.text
	case p.last < p.packages:
		return fmt.Sprintf("%s: package %d of %d, about %s left", p.program, p.last, p.packages, p.left())
	}
	if time.Since(p.lastPackage).Seconds() > secondsPerLink {
		return fmt.Sprintf("%s: linking, longer than usual: the machine is busy", p.program)
	}
	return fmt.Sprintf("%s: linking, about %s left", p.program, p.left())
}

// left is the time that the whole build still takes, at the pace so far.
func (p *progress) left() time.Duration {
	compiled := p.finished + p.last
	pace := secondsPerPackage / float64(runtime.NumCPU())
	if compiled > 50 {
		pace = time.Since(p.compileBegan).Seconds() / float64(compiled)
	}
	seconds := pace*float64(max(p.total-compiled, 0)) + secondsPerLink*float64(p.links)
	if p.program != "" && p.last >= p.packages {
		seconds -= min(secondsPerLink, time.Since(p.lastPackage).Seconds()) // linking, which prints nothing
	}
	return time.Duration(seconds+1) * time.Second
}

// linked ends one program's part of the build.
func (p *progress) linked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished, p.last, p.links, p.program = p.finished+p.last, 0, p.links-1, ""
}

// say prints a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...))
}

func (p *progress) show() {
	text := p.now()
	switch {
	case text == "":
	case p.terminal:
		fmt.Fprintf(os.Stderr, "\r\033[K%s", p.line(text))
	default:
		p.print(text)
	}
}

func (p *progress) line(text string) string {
	elapsed := time.Since(p.began)
	return fmt.Sprintf("  %-8s %2d:%02d  %s", p.title, int(elapsed.Minutes()), int(elapsed.Seconds())%60, text)
}

func (p *progress) print(text string) {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	fmt.Fprintln(os.Stderr, p.line(text))
}

func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.stop)
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
