#!/usr/bin/env bash
# Runs the demo. The first time on a machine even the programs that show progress must be compiled; only that of the first of them
# is shown from here. All are built without cgo, as the product is, so that they share compiled packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CGO_ENABLED=0

mkdir -p bin
( # prints a line after five seconds, and every ten from then on
    sleep 5
    for ((t = 5; ; t += 10)); do
        echo "demo: compiling the program that shows the progress of the rest, half a minute the first time ($t s)"
        sleep 10
    done
) &
heartbeat=$!
trap 'kill "$heartbeat" 2>/dev/null' EXIT
go -C hack/cluster build -o "$PWD/bin/cluster" .
kill "$heartbeat"
wait "$heartbeat" 2>/dev/null || true
trap - EXIT

if [[ ${1:-} == down ]]; then exec bin/cluster down; fi
(cd hack && ../bin/cluster compile -o ../bin ./demo)
exec bin/demo "$@"
