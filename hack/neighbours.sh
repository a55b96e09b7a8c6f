#!/usr/bin/env bash
# Runs the tests beside other controllers, on a real cluster that they start and remove themselves. --if-changed repeats, and
# labels as such, the result of the last successful run if nothing that it covers has changed since. With HEYMARKET_TEST_RESULTS
# set to a directory, the events of the run are stored there as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The objects that other controllers see, and the tests themselves.
covered=(api charts cmd config examples/quickstart go.mod hack/cluster hack/demo/overlay hack/neighbours.sh
    internal/contract internal/controller internal/echo internal/reach internal/receiver/metrics internal/receiver/ops.go test/e2e test/go.mod test/support/quickstart)
for path in "${covered[@]}"; do
    [[ -e $path ]] || { echo "neighbours: $path, which this script names, does not exist" >&2; exit 1; }
done

cache=${HEYMARKET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/heymarket-operator}
mkdir -p "$cache"
sum=$(git ls-files --cached --others --exclude-standard -z -- "${covered[@]}" | sort -zu | xargs -0 sha256sum | sha256sum | cut -c1-12)
passed=$cache/neighbours-$sum.json
results=${HEYMARKET_TEST_RESULTS:-$(mktemp -d)}/neighbours.json

if [[ ${1:-} == --if-changed ]]; then
    shift
    if [[ -e $passed ]]; then
        echo "neighbours: not run again: the ${#covered[@]} paths that hack/neighbours.sh names are as they were when these tests passed, $(date -r "$passed" '+%F %R')"
        cp "$passed" "$results"
        exit 0
    fi
    echo "neighbours: run, because no run has passed with the paths that hack/neighbours.sh names as they are"
fi

# standard-verbose: the first run compiles the other controllers, and its progress should be visible.
(cd test && E2E_CLUSTER=nbours go tool -modfile=../hack/tools/go.mod gotestsum --format standard-verbose --jsonfile "$results" -- -tags=neighbours -count=1 -timeout=60m "$@" ./e2e)
if (($# == 0)); then # all of them
    find "$cache" -maxdepth 1 -name 'neighbours-*.json' -mtime +7 -delete
    cp "$results" "$passed.new"
    mv "$passed.new" "$passed"
fi
