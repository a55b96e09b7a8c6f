#!/usr/bin/env bash
# Runs user journeys on a real cluster, which the tests start and remove themselves. With E2E_KUBECONFIG set they use that cluster
# instead. With HEYMARKET_TEST_RESULTS set to a directory, the events of the run are stored there as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source hack/install.sh
install chromium chromium "the journey through the console runs in"
export HEYMARKET_REQUIRE_ALL=1
cd test

keep=()
if [[ -n ${HEYMARKET_TEST_RESULTS:-} ]]; then keep=(--jsonfile "$HEYMARKET_TEST_RESULTS/e2e.json"); fi
# standard-verbose: the first run compiles Kubernetes, and its progress should be visible.
go tool -modfile=../hack/tools/go.mod gotestsum --format standard-verbose "${keep[@]}" -- -tags=e2e -count=1 -timeout=60m "$@" ./e2e
