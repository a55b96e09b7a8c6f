// Command bench measures the receiver against the goals that it is held to, each figure beside a control that ran in
// the same minutes on the same machine: machines differ, ratios stay. Run it by `go -C test/bench/receiver run .`; it needs
// Linux, redis-server and redis-benchmark, and starts and ends everything that it measures itself, on loopback.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "control" {
		if err := runControl(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench control:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	*lab
	rounds int
	quick  bool
	other  string // the binary of another receiver
	report report

	// patience is the time left for repeating disturbed measurements; foreign is the CPU time of other processes in the end.
	patience time.Duration
	foreign  []float64 // of one section

	// What later measurements go by: events a second, 0 until known.
	ingestMax, deliveryMax float64
}

// section is one group of measurements that can be asked for by name.
type section struct {
	name string
	run  func(*bench) error
	// asked means that it only runs when it is named.
	asked bool
}

var sections = []section{
	{name: "start", run: (*bench).start},
	{name: "ingest", run: (*bench).ingest},
	{name: "cost", run: (*bench).cost},
	{name: "delivery", run: (*bench).delivery},
	{name: "latency", run: (*bench).latency},
	{name: "dead", run: (*bench).deadTarget},
	{name: "memory", run: (*bench).memory},
	{name: "remembered", run: (*bench).remembered},
	{name: "eight", run: (*bench).eightTargets},
	{name: "cluster", run: (*bench).redisCluster, asked: true},
	{name: "profile", run: (*bench).profile, asked: true},
	{name: "against", run: (*bench).against, asked: true},
	{name: "clients", run: (*bench).clients, asked: true},
}

func run() error {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	quick := flag.Bool("quick", false, "one short round of everything, under a minute: to see that it works, not for figures")
	rounds := flag.Int("rounds", 5, "how many `rounds` the medians are of")
	patience := flag.Duration("patience", time.Minute, "`time` to spend on repeating measurements while others keep the machine busy")
	only := flag.String("only", "", "`sections` to run, by comma: "+strings.Join(names, ", ")+" (cluster, profile, against and clients run only when named)")
	out := flag.String("out", "", "`file` for the figures as JSON; the table goes beside it as .md (default results/<time>.json)")
	other := flag.String("against", "", "`binary` of another receiver, which the section against compares this one with")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	var wanted []string
	if *only != "" {
		wanted = strings.Split(*only, ",")
		for _, w := range wanted {
			if !slices.Contains(names, w) {
				return fmt.Errorf("-only: no section is called %q; there are %s", w, strings.Join(names, ", "))
			}
		}
	}
	began := time.Now()
	if *out == "" {
		*out = "results/" + began.Format("20060102-150405") + ".json"
	}
	if *quick {
		*rounds, *patience = 1, 0
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // keep the libraries' log out of the table
	debug.SetGCPercent(400)                                         // the generator shares the machine with what it measures

	l, err := newLab()
	if l != nil {
		defer l.close()
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
		go func() {
			<-interrupted
			l.close()
			os.Exit(130)
		}()
	}
	if err != nil {
		return err
	}
	b := &bench{lab: l, rounds: *rounds, quick: *quick, other: *other}
	b.report = report{Began: began, Machine: machine(), Quick: *quick, Rounds: *rounds}
	var failed error
	whole := l.meter()
	chosen := slices.DeleteFunc(slices.Clone(sections), func(s section) bool {
		return (wanted == nil && s.asked) || (wanted != nil && !slices.Contains(wanted, s.name))
	})
	for _, s := range chosen {
		b.patience += *patience / time.Duration(len(chosen)) // what one section does not need the next may use
		fmt.Fprintf(os.Stderr, "%4.0fs  %s\n", time.Since(began).Seconds(), s.name)
		if err := b.measure(s); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err)) // the other sections are still reported
		}
	}
	b.report.Others = whole.others()
	b.report.Took = time.Since(began).Round(time.Second).String()
	if err := b.report.write(*out); err != nil {
		return err
	}
	fmt.Printf("\n%s\nFigures: %s\n", b.report.markdown(), *out)
	return failed
}

// measure runs a section, and notes in its rows how much others used: in the median of its measurements where it has
// several, else from its beginning to its end.
func (b *bench) measure(s section) error {
	mark, rows, clients, m := b.mark(), len(b.report.Rows), len(b.report.Clients), b.meter()
	b.foreign = nil
	err := s.run(b)
	share := m.others()
	if len(b.foreign) > 0 {
		share = median(b.foreign)
	}
	for _, added := range [][]row{b.report.Rows[rows:], b.report.Clients[clients:]} {
		for i := range added {
			added[i].Others = share
		}
	}
	b.release(mark)
	return err
}

// short is long in a full run, brief in a quick one.
func (b *bench) short(long, brief time.Duration) time.Duration {
	if b.quick {
		return brief
	}
	return long
}

func (b *bench) few(many, few int) int {
	if b.quick {
		return few
	}
	return many
}

func (b *bench) add(r row) { b.report.Rows = append(b.report.Rows, r) }

// settle lets what the previous measurement set going come to rest: the append-only file is synced once a second.
func (b *bench) settle() { time.Sleep(b.short(500*time.Millisecond, 100*time.Millisecond)) }
