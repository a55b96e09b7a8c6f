#!/usr/bin/env bash
# Reports whether everything derived is up to date: generated files, formatting, go.mod and go.sum of each module. It works on a
# copy, so that a check never changes the tree that it checks, and reports all findings, not just the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    echo "verify: this is not a git work tree, so it is not known which files belong to the project; run it in a clone." >&2
    exit 1
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-verify.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/now" "$scratch/fresh"

# The content of a commit: tracked and new files, without ignored ones and those that are deleted but still in the index.
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi
    done >"$scratch/files"
tar --create --null --files-from="$scratch/files" | tar --extract --directory="$scratch/now"
cp -a "$scratch/now/." "$scratch/fresh/"

failed=0
fail() {
    echo "verify: $*" >&2
    failed=1
}

if ! "$scratch/fresh/hack/generate.sh" >"$scratch/generate.log" 2>&1; then
    cat "$scratch/generate.log" >&2
    fail "hack/generate.sh failed, see above; run \`make generate\` to see it fail in place."
elif ! diff -ruN "$scratch/now" "$scratch/fresh" >"$scratch/diff"; then
    # Paths as in the tree, in the diff and in the message.
    sed -e "s|$scratch/now/|a/|g" -e "s|$scratch/fresh/|b/|g" -e 's/^diff -ruN /diff /' "$scratch/diff" >&2
    stale=$(sed -n "s|^diff -ruN $scratch/now/\([^ ]*\) .*|\1|p" "$scratch/diff" | paste -sd ' ')
    fail "stale: $stale. Run \`make generate\` and commit the result."
fi

unformatted=$(cd "$scratch/now" && find . -name '*.go' -exec gofmt -l {} + | sed 's|^\./||' | paste -sd ' ')
if [[ -n $unformatted ]]; then fail "not formatted: $unformatted. Run \`make fmt\`."; fi

while IFS= read -r module; do
    name=${module#"$scratch/now"}
    name=${name#/}
    name=${name:-.}
    # A module that replaces a dependency with a directory that its build creates cannot be resolved without that directory.
    missing=$(cd "$module" && sed -n 's|.*=> *\(\.\.*/[^ ]*\).*|\1|p' go.mod | while read -r folder; do [[ -d $folder ]] || echo "$folder"; done)
    if [[ -n $missing ]]; then
        echo "verify: $name/go.mod not checked: its $missing exists only while it is being built."
        continue
    fi
    if ! (cd "$module" && go mod tidy -diff) >"$scratch/tidy" 2>&1; then
        cat "$scratch/tidy" >&2
        fail "$name/go.mod or its go.sum is stale. Run \`go -C $name mod tidy\`."
    fi
done < <(find "$scratch/now" -name go.mod -printf '%h\n' | sort)

if ((failed)); then exit 1; fi
echo "verify: everything generated is fresh, formatted and tidy."
