#!/usr/bin/env bash
# Runs the named parts, or all: tests that verify the product and take too long for each change. The result of each part, with its
# commit, date and duration, replaces the part's last one in test/proof/campaign.md, even if it fails; the log of a failed part is
# kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=test/proof/campaign.md
parts=(release fuzz readers histories faults mutations mutants torture siege)

# The size of each part; the Makefile has the same defaults.
size() {
    case $1 in
    release) echo "RELEASE_CACHE=${RELEASE_CACHE:-separate}" ;;
    fuzz) echo "FUZZ_TIME=${FUZZ_TIME:-60s}" ;;
    readers) echo "READERS_BODIES=${READERS_BODIES:-1000000}" ;;
    histories) echo "HISTORIES=${HISTORIES:-100000}" ;;
    faults) echo "FAULTS=${FAULTS:-0}" ;;
    mutations) echo "MUTATIONS=${MUTATIONS:-10000}" ;;
    mutants) echo "MUTANTS_TIME=${MUTANTS_TIME:-10m}" ;;
    torture) echo "TORTURE_SECONDS=${TORTURE_SECONDS:-300}" ;;
    siege) echo "SIEGE_CONNECTIONS=${SIEGE_CONNECTIONS:-10000}" ;;
    esac
}

# Prints the summary of a part from its log.
summary() {
    case $1 in
    release) grep -ao 'sha256:[0-9a-f]*' "$2" | tail -n 1 ;; # it makes everything twice and compares
    fuzz) echo "$(grep -ac '^fuzz: ' "$2") targets found nothing" ;;
    mutants) grep -ao 'internal/[^:]*: [0-9]* of [0-9]* tried, [0-9]* killed ([0-9.]* %)' "$2" | sed 's/.*killed (\(.*\))/\1/' | sort -n | sed -n '1s/^/lowest /p' ;;
    *) grep -a -- '--- PASS' "$2" | wc -l | sed 's/$/ tests/' ;;
    esac
}

keep() {
    local row="| $1 | $(size "$1") | $2 | $3 | $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- ':!docs/reference/mutants.md' ":!$page" || echo ', changed') | $(date -u +%F) | $4 |"
    awk -v part="| $1 |" -v row="$row" '
        index($0, part) == 1 { print row; done = 1; next }
        table && !/^\|/ && !done { print row; done = 1 }
        { table = /^\|/; print }
        END { if (!done) print row }' "$page" >"$page.new"
    mv "$page.new" "$page"
}

chosen=("$@")
[[ $# -gt 0 ]] || chosen=("${parts[@]}")
failed=0
for part in "${chosen[@]}"; do
    if [[ ! " ${parts[*]} " == *" $part "* ]]; then
        echo "campaign: there is no part $part; one of: ${parts[*]}" >&2
        exit 2
    fi
    log=$(mktemp "${TMPDIR:-/tmp}/heymarket-campaign-$part.XXXXXX")
    echo "campaign: $part, logging to $log"
    began=$SECONDS
    if make "$part" >"$log" 2>&1; then
        result=passed
    else
        result=failed failed=1
        tail -n 20 "$log" >&2
        echo "campaign: $part failed; $log has all of it" >&2
    fi
    keep "$part" "$result" "$(summary "$part" "$log" || true)" "$((SECONDS - began)) s"
    [[ $result == failed ]] || rm "$log"
done
exit "$failed"
