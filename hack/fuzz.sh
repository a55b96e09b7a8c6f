#!/usr/bin/env bash
# Runs every fuzz target of the product in turn, for FUZZ_TIME each (default 60s). Findings are stored under testdata/fuzz of the
# package, where `go test` runs them from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' api cmd internal | sort | while read -r file; do
    grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r target; do
        echo "fuzz: $target of ./$(dirname "$file") for ${FUZZ_TIME:=60s}"
        go test "./$(dirname "$file")" -run='^$' -fuzz="^$target\$" -fuzztime="$FUZZ_TIME" </dev/null
    done
done
