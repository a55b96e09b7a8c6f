#!/usr/bin/env bash
# Finds idioms that make texts slow to read, where users read them and in the comments of Go and Lua. The glossary in CONTRIBUTING.md has the
# terms to use instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

idioms='\b(is|are|be|been) told\b|\btells\b|\bnobody\b|\bwhoever\b|\banew\b|\bfor ever\b|\bheals\b|\blets? go\b|\bshuts? off\b|\bin come\b|\bout go\b|\bknocks?\b'
# Texts for users, except generated ones and the templates' code.
mapfile -d '' files < <(git ls-files -z --cached --others --exclude-standard -- \
    README.md SECURITY.md CONTRIBUTING.md 'docs/*.md' 'api/**/*_types.go' 'api/**/conditions.go' 'cmd/**/*.go' 'charts/**/values.yaml' \
    'charts/**/rules.yaml' 'charts/**/NOTES.txt' 'internal/controller/condition/*.go' 'internal/contract/*.go' ':!docs/reference/api.md' ':!**/*_test.go')
if ((${#files[@]} == 0)); then
    echo "prose: no file found to check" >&2
    exit 1
fi
# Some idioms above are legitimate in comments; those below are not. Scripts of earlier releases do not change.
comment_idioms='\b(is|are|be|been|was|were) told\b|\btells\b|\b(some|no|any)body\b|\bwhoever\b|\banew\b|\bfor ever\b|\bof itself\b|\bsuch as are\b|\bgoes? by\b'
comment_idioms+='|\bsays? whether\b|\bthe release before\b|\bthe other side\b|\bwhere there (is|are) none\b|\bwhat is not there\b'
mapfile -d '' sources < <(git ls-files -z --cached --others --exclude-standard -- '*.go' '*.lua' ':!**/before/*.lua')
found=$(grep -nEi "$idioms" "${files[@]}" || true; grep -nEi "(^|[[:blank:]])(//|--)[[:blank:]].*($comment_idioms)" "${sources[@]}" || true)
if [[ -n $found ]]; then
    echo "$found" >&2
    echo "prose: rewrite these with the terms of the glossary in CONTRIBUTING.md." >&2
    exit 1
fi
echo "prose: ${#files[@]} files and the comments of ${#sources[@]} are plain English, as far as a list of idioms can tell."
