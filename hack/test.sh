#!/usr/bin/env bash
# Runs every test except those on a real cluster (make e2e): unit, golden, API tests against a real kube-apiserver and etcd,
# pipeline tests against a real redis-server, all with the race detector. It installs and builds missing dependencies, and skips
# nothing: a test that cannot run fails. With HEYMARKET_TEST_RESULTS set to a directory, the events of each run are stored there
# as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source hack/install.sh
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
sum product -race -timeout 60m "$@" ./api/... ./cmd/... ./internal/... || failed=1
(cd test && sum proofs -timeout 60m "$@" ./...) || failed=1
(cd hack && sum hack -race -timeout 60m "$@" ./...) || failed=1
(cd hack/cluster && sum cluster . ./image) || failed=1
(cd test/surface/chart/rules && sum rules .) || failed=1
(cd test/proof/jsonparity && sum readers .) || failed=1
exit $failed
