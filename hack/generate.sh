#!/usr/bin/env bash
# Writes every file that is derived from Go: deepcopy, the CRD, RBAC, the API reference, goldens. `make verify` runs it in a copy
# of the tree and compares, so it must be deterministic and read only the tree in which it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A developer's go.work must not decide which versions are used.
export GOWORK=off

# -modfile instead of -C: the tool's version comes from hack/tools, the tool itself runs here.
tool() { go tool -modfile=hack/tools/go.mod "$@"; }

# Generators write here first: if one fails, the tree is unchanged, and if one finds nothing to write, that is noticed now and not
# in a cluster.
out=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-generate.XXXXXX")
trap 'rm -rf "$out"' EXIT

tool controller-gen object paths=./api/...

# Built with `go tool`, controller-gen reports the version of hack/tools as its own. Write the pinned version, which is correct
# and does not depend on how it was built.
tool controller-gen crd paths=./api/... output:crd:artifacts:config="$out"
version=$(go list -modfile=hack/tools/go.mod -m -f '{{.Version}}' sigs.k8s.io/controller-tools)
mkdir -p config/crd
sed "s|^\( *controller-gen.kubebuilder.io/version:\).*|\1 $version|" "$out/heymarket.dev_heymarketwebhooks.yaml" \
    >config/crd/heymarket.dev_heymarketwebhooks.yaml

tool controller-gen rbac:roleName=heymarket-operator paths=./internal/controller/... output:rbac:artifacts:config="$out"
if [[ ! -s $out/role.yaml ]]; then
    echo "generate: no +kubebuilder:rbac marker found in internal/controller; they count only with an empty line between them and the next declaration." >&2
    exit 1
fi
mkdir -p config/rbac
cat "$out/role.yaml" >config/rbac/role.yaml
# The ClusterRole, which comes first, as the Role of a single namespace.
mkdir -p config/namespaced/rights
awk '/^---$/ { n++ } n == 1' config/rbac/role.yaml |
    sed -e 's/^kind: ClusterRole$/kind: Role/' -e 's/^  name: heymarket-operator$/&-webhooks/' >config/namespaced/rights/role.yaml

# The renderer leaves trailing blanks, runs of empty lines, empty braces after Optional and Required, and "<name>", which browsers
# interpret as a tag.
tool crd-ref-docs --source-path=api --config=hack/tools/crd-ref-docs.yaml --renderer=markdown --output-path="$out/api.md" --log-level=ERROR
mkdir -p docs/reference
sed -e 's/Optional: \\{\\} <br \/>//' -e 's/Required: \\{\\}/Required/' -e 's/<\([a-z][a-z-]*\)>/\&lt;\1\&gt;/g' -e 's/[[:blank:]]*$//' "$out/api.md" | cat -s >docs/reference/api.md

# The chart holds copies of the CRD and the role.
hack/chart.sh

# The page on conditions is generated from their comments.
go -C test test ./surface/docs -count=1 -run TestConditions -update

# Last, because it compiles the files above. The page on events shows the samples.
go test ./internal/controller/desired -count=1 -update
cp internal/receiver/admin/openapi.json docs/reference/openapi.json
go test ./internal/fixture -count=1 -run TestEventsPage -update
