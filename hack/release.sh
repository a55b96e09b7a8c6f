#!/usr/bin/env bash
# Makes a release of the commit that is checked out, in dist/release: static binaries, the image for amd64 and arm64, its bill of materials, the packaged chart,
# install.yaml, and the checksums of them all. It needs Go and git, no Docker and no registry, and it pushes nothing.
#
# Everything is made twice, from two clones in two places; a release that is not the same both times is none. RELEASE_CACHE=shared lets the second build use
# what the first one compiled, which is quicker and proves less: that paths, times and order leave no trace, but not what the compiler does.
#
# The image is made by hack/cluster/image and not by ko, which was tried (0.19.1). ko puts one binary into an image, below /ko-app, on top of a base image that it
# fetches from a registry: neither an OCI layout nor its own cache will do. This image is /manager and /receiver, which the chart and the operator name, and what
# they need, on nothing. With a registry on loopback that serves /receiver as the base ko builds it, and with one digest twice, but the image then names
# 127.0.0.1 for ever as the place of its base, hack/cluster/image is still needed, for the base and for the local cluster, a step more has to give what ko writes
# the name by which containerd and Docker load it, and ko is 700 packages of 150 modules. The binaries are the same to the byte.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 GOOS=linux

root=$PWD
version=$(sed -n 's/^version: //p' charts/heymarket-operator/Chart.yaml)
image=${IMAGE:-heymarket.dev/operator:$version}
commit=$(git rev-parse HEAD)
epoch=$(git log -1 --format=%ct)
architectures=(amd64 arm64)
commands=(manager receiver)
if [[ -d cmd/kubectl-heymarket ]]; then commands+=(kubectl-heymarket); fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-release.XXXXXX")
# Go's module files are read-only.
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

echo "release: version $version of $commit"
for clone in first/here second/and/further/down; do
    git clone --quiet --no-checkout --no-local "file://$root" "$scratch/$clone"
    git -C "$scratch/$clone" checkout --quiet --detach "$commit"
done
# What works on the release is the commit's as well, not what happens to be in the working tree.
(
    unset GOOS
    cd "$scratch/first/here"
    go -C hack/cluster build -o "$scratch/cluster" .
    go -C hack build -o "$scratch/" ./sbom ./manifest
)
# With cgo or without as everywhere else, so that it is found compiled.
helm=$(unset GOOS CGO_ENABLED && cd "$scratch/first/here" && go tool -n -modfile=hack/tools/go.mod helm)

make_all() { # a clone's directory, and where to write
    local here=$1 out=$2 arch command files=()
    mkdir -p "$out" "$here/dist"
    for arch in "${architectures[@]}"; do
        for command in "${commands[@]}"; do
            (cd "$here" && GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.version=$version" -o "dist/$arch/$command" "./cmd/$command")
        done
        cp "$here/LICENSE" "$here/dist/$arch/"
        tar --create --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --directory="$here/dist/$arch" . |
            gzip --no-name --best >"$out/heymarket-operator_${version}_linux_$arch.tar.gz"
    done
    for command in manager receiver; do files+=("$here/dist/{arch}/$command=/$command"); done
    # Targets with https:// URLs are verified by the roots that the building machine trusts; the second build has the same.
    files+=("${ROOTS:-/etc/ssl/certs/ca-certificates.crt}=/etc/ssl/certs/ca-certificates.crt")
    "$scratch/cluster" image -z -a "$(IFS=,; echo "${architectures[*]}")" -o "$out/heymarket-operator_${version}_image.tar" -t "$image" -e /manager "${files[@]}" >/dev/null
    "$scratch/cluster" digest "$out/heymarket-operator_${version}_image.tar" >"$out/image.digest"
    for arch in "${architectures[@]}"; do
        "$scratch/sbom" "$version" "$here/dist/$arch/manager" "$here/dist/$arch/receiver" >"$out/heymarket-operator_${version}_linux_$arch.cdx.json"
    done
    # Helm keeps the files' times, and writes the present one where there is none to keep.
    find "$here/charts" -exec touch --no-dereference --date="@$epoch" {} +
    SOURCE_DATE_EPOCH=$epoch "$helm" package "$here/charts/heymarket-operator" --destination "$out" >/dev/null
    "$scratch/manifest" "$here/config/default" "${image%:*}@$(cat "$out/image.digest")" >"$out/install.yaml"
    (cd "$out" && sha256sum -- * >SHA256SUMS)
}

make_all "$scratch/first/here" "$scratch/one"
if [[ ${RELEASE_CACHE:-} != shared ]]; then export GOCACHE=$scratch/cache; fi
make_all "$scratch/second/and/further/down" "$scratch/two"

if ! diff "$scratch/one/SHA256SUMS" "$scratch/two/SHA256SUMS"; then
    echo "release: two builds of $commit differ, see above: this is no release." >&2
    exit 1
fi
rm -rf dist/release
mkdir -p dist
cp -r "$scratch/one" dist/release
echo "release: two builds, one result. The image is ${image%:*}@$(cat dist/release/image.digest)"
(cd dist/release && ls -l)
