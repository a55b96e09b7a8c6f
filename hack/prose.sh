#!/usr/bin/env bash
# Finds the idioms that make our texts slow to read, where users read them. The glossary in CONTRIBUTING.md has what to write instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

idioms='\b(is|are|be|been) told\b|\btells\b|\bnobody\b|\bwhoever\b|\banew\b|\bfor ever\b|\bheals\b|\blets? go\b|\bshuts? off\b|\bin come\b|\bout go\b|\bknocks?\b'
# What users read; not what is generated, and not the templates' code.
mapfile -d '' files < <(git ls-files -z --cached --others --exclude-standard -- \
    README.md SECURITY.md CONTRIBUTING.md 'docs/*.md' 'api/**/*_types.go' 'api/**/conditions.go' 'cmd/**/*.go' 'charts/**/values.yaml' \
    'charts/**/rules.yaml' 'charts/**/NOTES.txt' 'internal/controller/condition/*.go' 'internal/contract/*.go' ':!docs/reference/api.md' ':!**/*_test.go')
if ((${#files[@]} == 0)); then
    echo "prose: no file found to check" >&2
    exit 1
fi
if found=$(grep -nEi "$idioms" "${files[@]}"); then
    echo "$found" >&2
    echo "prose: rewrite these with the terms of the glossary in CONTRIBUTING.md." >&2
    exit 1
fi
echo "prose: ${#files[@]} files are plain English, as far as a list of idioms can tell."
