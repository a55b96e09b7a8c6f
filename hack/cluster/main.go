// Command cluster brings up a real Kubernetes on this machine, from Go modules and Debian packages alone, and takes it away again without a trace.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"heymarket.dev/operator/hack/cluster/image"
)

const usage = `cluster: a one-node Kubernetes on this machine, in namespaces of its own.

  cluster up [--name N]                  build what is missing, start it, wait until it works
  cluster load [--name N] ARCHIVE…       make images known to it
  cluster status [--name N]              say whether it stands and where
  cluster kubeconfig [--name N]          print the path of its kubeconfig
  cluster down [--name N]                end it and leave the host as it was
  cluster snapshot                       print what a cluster could leave behind on the host, standing clusters left out

  cluster build [NAME…]                  build into the cache: kube, coredns, traefik, pause, redis (all without a NAME)
  cluster archive NAME…                  build these programs and print the archives of their images; also those that only make e2e-neighbours runs
  cluster assets                         print a directory with etcd, kube-apiserver and kubectl, for KUBEBUILDER_ASSETS
  cluster image -o FILE -t TAG [-e ENTRYPOINT] [-z] [-a ARCH,ARCH] SOURCE=/PATH…
                                         write a container image of files; "{digest}" in TAG becomes its own; for each ARCH one, with it for "{arch}" in SOURCE
  cluster digest FILE                    print the digest of such an image
  cluster compile -o DIR PACKAGE…        go build static programs of the module here, with progress
  cluster exec [--name N] COMMAND…       run a command in its network namespace

Binaries are kept in ${HEYMARKET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/heymarket-operator}.
`

func main() {
	if len(os.Args) > 1 && os.Args[1] == initCommand {
		runInit()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; what is standing stays, `cluster down` removes it")
	}
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "cluster: %s\n", strings.TrimSpace(err.Error()))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(out, usage)
		return nil
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	name := flags.String("name", "demo", "")
	file, tag, entrypoint, gz := flags.String("o", "", ""), flags.String("t", "", ""), flags.String("e", "", ""), flags.Bool("z", false, "")
	architectures := flags.String("a", "", "")
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, usage)
		return err
	} else if err != nil {
		return fmt.Errorf("%w; `cluster help` lists what there is", err)
	}
	rest := flags.Args()
	if !validName.MatchString(*name) {
		return fmt.Errorf("%q is no name for a cluster: it takes 1 to 8 lower-case letters or digits", *name)
	}
	switch args[0] {
	case "build":
		return commandBuild(ctx, rest)
	case "archive":
		return commandArchive(ctx, out, rest)
	case "assets":
		dir, err := assets(ctx)
		if err == nil {
			fmt.Fprintln(out, dir)
		}
		return err
	case "image":
		return commandImage(out, *file, *tag, *entrypoint, *architectures, *gz, rest)
	case "digest":
		if len(rest) != 1 {
			return errors.New("digest takes the file of an image")
		}
		_, digest, err := image.Inspect(rest[0])
		if err == nil {
			fmt.Fprintln(out, digest)
		}
		return err
	case "compile":
		return commandCompile(ctx, *file, rest)
	case "up":
		return up(ctx, *name)
	case "load":
		return load(ctx, *name, rest)
	case "status":
		return status(out, *name)
	case "kubeconfig":
		c, err := standing(*name)
		if err == nil {
			fmt.Fprintln(out, c.file("kubeconfig"))
		}
		return err
	case "exec":
		return execIn(*name, rest)
	case "down":
		return down(*name)
	case "snapshot":
		return snapshot(out)
	}
	return fmt.Errorf("%q is no command; `cluster help` lists what there is", args[0])
}

func commandImage(out io.Writer, file, tag, entrypoint, architectures string, gz bool, pairs []string) error {
	if file == "" || tag == "" || len(pairs) == 0 {
		return errors.New("an image takes -o FILE, -t TAG and at least one SOURCE=/PATH")
	}
	spec := image.Spec{Tag: tag, Gzip: gz, Files: map[string]string{}}
	if entrypoint != "" {
		spec.Entrypoint = []string{entrypoint}
	}
	if architectures != "" {
		spec.Architectures = strings.Split(architectures, ",")
	}
	for _, pair := range pairs {
		source, path, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q should be SOURCE=/PATH", pair)
		}
		spec.Files[path] = source
	}
	name, err := writeImage(file, spec)
	if err == nil {
		fmt.Fprintln(out, name)
	}
	return err
}
