#!/usr/bin/env bash
# Pushes the output of hack/release.sh: the image to the name IMAGE, with its tag, and the chart below CHARTS, such as
# ghcr.io/heymarket/charts. Log in to both registries first. It prints both with their digests, which are then signed. PUBLISH_DIR
# is the directory of the release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

dir=${PUBLISH_DIR:-dist/release}
: "${IMAGE:?names the image with its tag, as hack/release.sh was given it}"
: "${CHARTS:?names the repository of charts, without oci://}"
helm() { go tool -modfile=hack/tools/go.mod helm "$@"; }
crane() { go -C hack tool crane "$@"; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-publish.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
tar --extract --directory="$scratch" --file="$(find "$dir" -name '*_image.tar')"
crane push "$scratch" "$IMAGE" >/dev/null 2>"$scratch/complaint" || { cat "$scratch/complaint" >&2; exit 1; }
digest=$(crane digest "$IMAGE")
if [[ $digest != "$(cat "$dir/image.digest")" ]]; then
    echo "publish: the registry has $IMAGE as $digest, the chart names $(cat "$dir/image.digest")" >&2
    exit 1
fi
echo "${IMAGE%:*}@$digest"

plain=()
if [[ $CHARTS == 127.0.0.1:* ]]; then plain=(--plain-http); fi
chart=$(find "$dir" -name 'heymarket-operator-*.tgz')
pushed=$(helm push "${plain[@]}" "$chart" "oci://$CHARTS" 2>&1) || { echo "$pushed" >&2; exit 1; }
echo "$CHARTS/heymarket-operator@$(sed -n 's/^.*\(sha256:[0-9a-f]*\)$/\1/p' <<<"$pushed")"
