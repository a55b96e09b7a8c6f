#!/usr/bin/env bash
# Builds a release of the checked-out commit, in dist/release: static binaries, the image for amd64 and arm64, its bill of
# materials, the packaged chart, install.yaml, the plugin for six platforms with a manifest for krew, and the checksums of them
# all. It needs Go and git, no Docker and no registry, and pushes nothing: hack/publish.sh does. IMAGE is the name of the image,
# to which the chart and install.yaml then refer by digest; REPOSITORY is the URL of the releases' repository.
#
# Everything is built twice, from two clones in two places; if the results differ, there is no release. RELEASE_CACHE=shared lets
# the second build use the compiler's cache of the first, which is faster and proves less: that paths, times and order have no
# effect, but not that the compiler is deterministic. RELEASE_TRIAL=1 builds everything once and only for amd64, for a test, in
# RELEASE_DIR.
#
# The image is built by hack/cluster/image and not by ko, which was evaluated (0.19.1). ko puts one binary into an image, below
# /ko-app, on top of a base image that it fetches from a registry: neither an OCI layout nor its own cache is accepted. This image
# contains /manager and /receiver, to which the chart and the operator refer, and their dependencies, without a base. With a
# registry on loopback that serves /receiver as the base, ko builds it twice with the same digest, but the image then permanently
# names 127.0.0.1 as the location of its base, hack/cluster/image is still needed, for the base and for the local cluster, an
# additional step must name ko's output so that containerd and Docker can load it, and ko is 700 packages of 150 modules. The
# binaries are identical.
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
platforms=({linux,darwin,windows}-{amd64,arm64})
if [[ ${RELEASE_TRIAL:-} == 1 ]]; then architectures=(amd64) platforms=(linux-amd64); fi
repository=${REPOSITORY:-https://github.com/heymarket/heymarket-operator}
out=${RELEASE_DIR:-dist/release}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-release.XXXXXX")
# Go's module files are read-only.
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

echo "release: version $version of $commit"
for clone in first/here second/and/further/down; do
    git clone --quiet --no-checkout --no-local "file://$root" "$scratch/$clone"
    git -C "$scratch/$clone" checkout --quiet --detach "$commit"
done
# The scripts that process the release are the commit's as well, not those of the working tree.
(
    unset GOOS
    cd "$scratch/first/here"
    go -C hack/cluster build -o "$scratch/cluster" .
    go -C hack build -o "$scratch/" ./sbom ./manifest
)
# With or without cgo as everywhere else, so that the cache is used.
helm=$(unset GOOS CGO_ENABLED && cd "$scratch/first/here" && go tool -n -modfile=hack/tools/go.mod helm)

compile() { # a clone's directory, a platform, a command, and where to write
    (cd "$1" && GOOS=${2%-*} GOARCH=${2#*-} go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$4" "./cmd/$3")
}

pack() { # a clone's directory, a folder to pack, and the archive
    cp "$1/LICENSE" "$2/"
    tar --create --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --directory="$2" . | gzip --no-name --best >"$3"
}

plugin() { # a clone's directory, and where to write: archives, and the manifest that krew installs from
    local here=$1 out=$2 platform archive bin
    cat >"$out/krew.yaml" <<END
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: heymarket
spec:
  version: v$version
  homepage: $repository
  shortDescription: Inspect and operate Heymarket webhooks
  description: |
    Shows the URL and the status of HeymarketWebhooks, sends test events, watches
    deliveries live, and lists and replays dead letters.
  platforms:
END
    for platform in "${platforms[@]}"; do
        bin=kubectl-heymarket
        if [[ $platform == windows-* ]]; then bin+=.exe; fi
        archive=kubectl-heymarket_${version}_${platform/-/_}.tar.gz
        compile "$here" "$platform" kubectl-heymarket "dist/plugin/$platform/$bin"
        pack "$here" "$here/dist/plugin/$platform" "$out/$archive"
        cat >>"$out/krew.yaml" <<END
    - selector:
        matchLabels:
          os: ${platform%-*}
          arch: ${platform#*-}
      uri: $repository/releases/download/v$version/$archive
      sha256: $(sha256sum "$out/$archive" | cut -d ' ' -f 1)
      bin: $bin
END
    done
}

chart() { # a clone's directory, where to write, and the image's digest: the chart of a release refers to its image
    local here=$1/charts/heymarket-operator name=${image%:*}
    sed -i -e "/^image:/,/^  pullPolicy:/{s|^  registry: .*|  registry: ${name%%/*}|;s|^  repository: .*|  repository: ${name#*/}|;s|^  digest: .*|  digest: $3|}" \
        "$here/values.yaml" "$here/files/values.yaml"
    # shellcheck disable=SC2016 # marks of Markdown
    sed -i -e 's|^\(. `image.registry` . `\)[^`]*|\1'"${name%%/*}|" -e 's|^\(. `image.repository` . `\)[^`]*|\1'"${name#*/}|" -e 's|^\(. `image.digest` . `\)[^`]*|\1'"$3|" \
        "$here/README.md"
    # Helm keeps the modification times of files, and uses the current time if a file has none.
    find "$1/charts" -exec touch --no-dereference --date="@$epoch" {} +
    SOURCE_DATE_EPOCH=$epoch "$helm" package "$here" --destination "$2" >/dev/null
}

make_all() { # a clone's directory, and where to write
    local here=$1 out=$2 arch command files=()
    mkdir -p "$out" "$here/dist"
    for arch in "${architectures[@]}"; do
        for command in "${commands[@]}"; do
            compile "$here" "linux-$arch" "$command" "dist/$arch/$command"
        done
        pack "$here" "$here/dist/$arch" "$out/heymarket-operator_${version}_linux_$arch.tar.gz"
    done
    for command in manager receiver; do files+=("$here/dist/{arch}/$command=/$command"); done
    # Targets with https:// URLs are verified by the roots that the building machine trusts; the second build has the same.
    files+=("${ROOTS:-/etc/ssl/certs/ca-certificates.crt}=/etc/ssl/certs/ca-certificates.crt")
    "$scratch/cluster" image -z -a "$(IFS=,; echo "${architectures[*]}")" -o "$out/heymarket-operator_${version}_image.tar" -t "$image" -e /manager "${files[@]}" >/dev/null
    "$scratch/cluster" digest "$out/heymarket-operator_${version}_image.tar" >"$out/image.digest"
    for arch in "${architectures[@]}"; do
        "$scratch/sbom" "$version" "$here/dist/$arch/manager" "$here/dist/$arch/receiver" >"$out/heymarket-operator_${version}_linux_$arch.cdx.json"
    done
    chart "$here" "$out" "$(cat "$out/image.digest")"
    plugin "$here" "$out"
    "$scratch/manifest" "$here/config/default" "${image%:*}@$(cat "$out/image.digest")" >"$out/install.yaml"
    (cd "$out" && sha256sum -- * >SHA256SUMS)
}

make_all "$scratch/first/here" "$scratch/one"
if [[ ${RELEASE_TRIAL:-} != 1 ]]; then
    if [[ ${RELEASE_CACHE:-} != shared ]]; then export GOCACHE=$scratch/cache; fi
    make_all "$scratch/second/and/further/down" "$scratch/two"
    if ! diff "$scratch/one/SHA256SUMS" "$scratch/two/SHA256SUMS"; then
        echo "release: two builds of $commit differ, see above: this is no release." >&2
        exit 1
    fi
fi
rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -r "$scratch/one" "$out"
echo "release: the image is ${image%:*}@$(cat "$out/image.digest")"
ls -l "$out"
