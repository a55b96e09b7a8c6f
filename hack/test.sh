#!/usr/bin/env bash
# Runs every test except those on a real cluster (make e2e): unit, golden, API tests against a real kube-apiserver and etcd,
# pipeline tests against a real redis-server, all with the race detector. It installs and builds missing dependencies, and skips
# nothing: a test that cannot run fails. With HEYMARKET_TEST_RESULTS set to a directory, the events of each run are stored there
# as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install() { # a command, the Debian package that has it, and what needs it
    if command -v "$1" >/dev/null; then return; fi
    echo "test: installing $2, which $3"
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        echo "test: $1 is missing and only root on Debian can have it installed here; install it (Debian: apt-get install $2) and run again." >&2
        exit 1
    fi
    # A package with a server would start it; the tests start their own.
    { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } >/tmp/heymarket-apt.log 2>&1 ||
        { cat /tmp/heymarket-apt.log >&2; echo "test: $2 could not be installed, see above." >&2; exit 1; }
}
install redis-server redis-server "the pipeline tests run against"
install chromium chromium "the tests of the console run in"

# kube-apiserver and etcd; the first time they are compiled, which takes minutes and shows its progress.
KUBEBUILDER_ASSETS=$(go -C hack/cluster run . assets)
export KUBEBUILDER_ASSETS HEYMARKET_REQUIRE_ALL=1

tools=$PWD/hack/tools/go.mod
sum() { # name, then arguments of go test
    local name=$1 keep=()
    shift
    if [[ -n ${HEYMARKET_TEST_RESULTS:-} ]]; then keep=(--jsonfile "$HEYMARKET_TEST_RESULTS/$name.json"); fi
    go tool -modfile="$tools" gotestsum --format pkgname --format-hide-empty-pkg "${keep[@]}" -- -count=1 "$@"
}

# The race detector is used for the product's own code; tests from outside run without it, and twice as fast.
# All of them run, even after one has failed.
failed=0
sum product -race -timeout 20m "$@" ./api/... ./cmd/... ./internal/... || failed=1
(cd test && sum proofs -timeout 20m "$@" ./...) || failed=1
(cd hack && sum hack -race "$@" ./...) || failed=1
(cd hack/cluster && sum cluster . ./image) || failed=1
(cd test/surface/chart/rules && sum rules .) || failed=1
(cd test/proof/jsonparity && sum readers .) || failed=1
exit $failed
