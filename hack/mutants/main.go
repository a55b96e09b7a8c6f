// Command mutants makes small mistakes in packages of the product, one at a time, and finds out which of them no test notices.
//
// All mistakes of a package are compiled into one test binary, each behind its number, and the number in the environment chooses one: so a mistake costs
// a run of those tests that reach it, until the first fails, and no build. Of the testers for Go, gremlins (0.6) copies the module and builds for each mistake, and takes every condition of a
// switch for one that no test reaches, of which this code is full; the others are no longer kept, or cannot be had.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// also are packages whose tests notice as well, beside the package's own.
var also = map[string][]string{
	"internal/receiver/config":      {"internal/receiver"},
	"internal/controller/condition": {"internal/controller"},
	"internal/controller/desired":   {"internal/controller"},
	"internal/controller/source":    {"internal/controller"},
}

// never are tests that run others of their package, with mistakes in what is not Go: they would cost minutes and notice nothing more.
var never = []string{"TestMistakesInScriptsAreNoticed"}

func main() {
	root := flag.String("root", "..", "`directory` of the product's checkout")
	limit := flag.Duration("time", 10*time.Minute, "`time` for each package; what is not tried by then is not counted")
	seed := flag.Uint64("seed", 1, "`number` of the order in which mistakes are tried")
	alone := flag.Bool("alone", false, "ask the tests of each package itself, and not those of others that notice as well, which may take minutes each time")
	jobs := flag.Int("jobs", 1, "`number` of mistakes that are tried at the same time; tests that wait for most of their time allow several")
	page := flag.String("page", "", "`file` whose table gets a row for each package; empty: none")
	flag.Parse()
	if *alone {
		clear(also)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *root, *page, *limit, *seed, *jobs, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "mutants: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, page string, limit time.Duration, seed uint64, jobs int, packages []string) error {
	if len(packages) == 0 {
		return errors.New("name packages, such as internal/receiver/retry")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	for _, name := range packages {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := try(ctx, root, strings.TrimPrefix(name, "./"), limit, seed, jobs)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(r)
		if page != "" {
			if err := write(context.WithoutCancel(ctx), page, root, r); err != nil { // an interrupted run keeps what it has tried
				return err
			}
		}
	}
	return nil
}

// result is the outcome of the mistakes in a package.
type result struct {
	pkg                        string
	all, tried, killed, unseen int // unseen: no test runs the place; they are among those that live
}

func (r result) String() string {
	return fmt.Sprintf("%s: %d of %d tried, %d killed (%.1f %%), %d at places that no test runs", r.pkg, r.tried, r.all, r.killed, r.score(), r.unseen)
}

func (r result) score() float64 { return 100 * float64(r.killed) / float64(max(r.tried, 1)) }

// try makes the mistakes in a package, in an order of chance, until all are made or the time is up.
func try(ctx context.Context, root, pkg string, limit time.Duration, seed uint64, jobs int) (result, error) {
	dir, err := os.MkdirTemp("", "mutants-") // short, because it is part of the paths of sockets
	if err != nil {
		return result{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	mistakes, overlay, err := instrument(ctx, root, pkg, dir)
	if err != nil {
		return result{}, err
	}
	var suites []*suite
	for i, of := range append([]string{pkg}, also[pkg]...) {
		s := &suite{dir: filepath.Join(root, of), binary: filepath.Join(dir, fmt.Sprintf("tests%d", i)), temporary: filepath.Join(dir, strconv.Itoa(i))}
		if err := os.Mkdir(s.temporary, 0o700); err != nil {
			return result{}, err
		}
		if err := s.build(ctx, root, of, overlay); err != nil {
			return result{}, err
		}
		if err := s.measure(ctx, filepath.Join(dir, "ran"), jobs); err != nil {
			return result{}, err
		}
		suites = append(suites, s)
	}
	r := result{pkg: pkg, all: len(mistakes)}
	end := time.Now().Add(limit)
	var mu sync.Mutex
	atOnce(jobs, rand.New(rand.NewPCG(seed, 0)).Perm(len(mistakes)), func(i int) {
		if time.Now().After(end) || ctx.Err() != nil {
			return
		}
		killed, ran := false, false
		for _, s := range suites {
			if !killed && len(s.tests[i+1]) > 0 {
				ran, killed = true, s.notices(ctx, i+1)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		r.tried++
		switch {
		case killed:
			r.killed++
		case ran:
			fmt.Printf("lives   %s\n", mistakes[i])
		default:
			r.unseen++
			fmt.Printf("unseen  %s\n", mistakes[i])
		}
	})
	return r, nil
}

// atOnce calls f for each value, in their order, for as many at the same time as there are jobs.
func atOnce[T any](jobs int, values []T, f func(T)) {
	next := make(chan T)
	var workers sync.WaitGroup
	for range max(jobs, 1) {
		workers.Go(func() {
			for v := range next {
				f(v)
			}
		})
	}
	for _, v := range values {
		next <- v
	}
	close(next)
	workers.Wait()
}

// suite is the test binary of one package.
type suite struct {
	dir, binary, temporary string
	skip                   []string         // tests that fail without any mistake, because of the instrumentation
	tests                  map[int][]string // the tests that run a place
	took                   map[string]time.Duration
	runs                   atomic.Int64
}

func (s *suite) build(ctx context.Context, root, pkg, overlay string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", s.binary, "./"+pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests of %s: %w: %s", pkg, err, out)
	}
	return nil
}

// measure runs each test without a mistake: which places it runs, how long it takes, and whether it fails.
func (s *suite) measure(ctx context.Context, ran string, jobs int) error {
	cmd := exec.CommandContext(ctx, s.binary, "-test.list", "^(Test|Fuzz|Example)")
	cmd.Dir = s.dir
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { // TestMain may print lines as well
		return !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") && !strings.HasPrefix(name, "Example") || slices.Contains(never, name)
	})
	s.tests, s.took = map[int][]string{}, map[string]time.Duration{}
	var mu sync.Mutex
	atOnce(jobs, names, func(name string) {
		places, began := ran+"-"+name, time.Now()
		out, err := s.run(ctx, 0, places, 20*time.Minute, name)
		took := time.Since(began)
		text, _ := os.ReadFile(places) // none if the test runs no place
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fmt.Printf("not asked, since it fails without a mistake: %s: %v\n%s", name, err, out)
			s.skip = append(s.skip, name)
			return
		}
		s.took[name] = took
		for line := range strings.Lines(string(text)) {
			var number int
			if _, err := fmt.Sscan(line, &number); err == nil {
				s.tests[number] = append(s.tests[number], name)
			}
		}
	})
	if len(s.took) == 0 {
		return fmt.Errorf("all tests fail without a mistake, or there are none: %v", s.skip)
	}
	return ctx.Err()
}

// notices reports whether a test that runs the place fails, or does not end, with a mistake. Tests are asked in batches, the quick ones first.
func (s *suite) notices(ctx context.Context, number int) bool {
	rest := s.tests[number]
	for _, most := range batches {
		var batch, slower []string
		longest, all := time.Duration(0), time.Duration(0)
		for _, name := range rest {
			if took := s.took[name]; took < most {
				batch, longest, all = append(batch, name), max(longest, took), all+took
			} else {
				slower = append(slower, name)
			}
		}
		rest = slower
		if len(batch) > 0 {
			// Most tests of a batch run at the same time, so a mistake that hangs costs little more than they need.
			if _, err := s.run(ctx, number, "", 10*time.Second+3*longest+all, batch...); err != nil {
				return true
			}
		}
	}
	return false
}

// batches bound what one test of a batch takes, the start of its process included.
var batches = []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, time.Hour}

// run runs tests until one fails. What a killed test leaves behind is removed.
func (s *suite) run(ctx context.Context, number int, ran string, limit time.Duration, tests ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	temporary := filepath.Join(s.temporary, "t"+strconv.FormatInt(s.runs.Add(1), 36))
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	cmd := exec.CommandContext(ctx, s.binary, "-test.failfast", "-test.timeout=0", "-test.parallel=8", "-test.run=^("+strings.Join(tests, "|")+")$")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", chosenVariable, number), ranVariable+"="+ran, "TMPDIR="+temporary)
	cmd.WaitDelay = time.Second
	out := &untilFailure{failed: cancel}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	return out.String(), err
}

// untilFailure keeps what tests print, and calls failed as soon as one of them has failed.
type untilFailure struct {
	bytes.Buffer
	failed func()
}

func (u *untilFailure) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if bytes.Contains(u.Bytes(), []byte("--- FAIL: ")) {
		u.failed()
	}
	return n, err
}

// write puts a row into the table of a page, in place of the package's last one.
func write(ctx context.Context, page, root string, r result) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	commit, err := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("ask git for the commit: %w", err)
	}
	row := fmt.Sprintf("| `%s` | %d | %d | %d | %d | %.1f %% | %s | %s |",
		r.pkg, r.all, r.tried, r.killed, r.tried-r.killed, r.score(), strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly))
	var head, rows, tail []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "| `"):
			if !strings.HasPrefix(line, "| `"+r.pkg+"` ") {
				rows = append(rows, line)
			}
		case len(rows) == 0 && len(tail) == 0 && !tableEnds(line, head):
			head = append(head, line)
		default:
			tail = append(tail, line)
		}
	}
	rows = append(rows, row)
	slices.Sort(rows)
	return os.WriteFile(page, []byte(strings.Join(slices.Concat(head, rows, tail), "\n")+"\n"), 0o644)
}

// tableEnds reports whether a line is the first after a table that has no rows yet.
func tableEnds(line string, before []string) bool {
	return len(before) > 0 && strings.HasPrefix(before[len(before)-1], "|-") && !strings.HasPrefix(line, "|")
}
