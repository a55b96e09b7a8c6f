#!/usr/bin/env bash
# Runs the tests of scripts and of users against the versions of Redis and Valkey in Debian's stable release, backports and
# testing. It installs nothing: packages are unpacked into a directory of their own, with the C library that they need, and apt
# gets its own lists.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d "${TMPDIR:-/tmp}/heymarket-redis.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache/archives}/partial "$scratch/bin"
for suite in bookworm-backports trixie sid; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main"
done >"$scratch/sources.list"
cat >"$scratch/apt.conf" <<END
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$scratch/lists";
Dir::Cache "$scratch/cache";
APT::Sandbox::User "root";
END
export APT_CONFIG=$scratch/apt.conf
apt-get update -qq

unpack() { # a folder, a suite, and packages
    local to=$scratch/$1 suite=$2 package
    mkdir -p "$to/debs"
    for package in "${@:3}"; do (cd "$to/debs" && apt-get download -qq "$package/$suite"); done
    for package in "$to"/debs/*.deb; do dpkg-deb -x "$package" "$to"; done
}

# The server is also in the package of tools, under the name of the program that checks its dumps; the name by which it is called
# selects the program.
version() { # a suite, and redis or valkey
    local suite=$1 kind=$2 name=$2-$1
    unpack "$name" "$suite" "$kind-tools"
    unpack "lib-$suite" "$suite" libc6 libstdc++6 libgcc-s1 libsystemd0 libssl3t64 libatomic1 liblzf1 libjemalloc2 libcap2 zlib1g libzstd1
    wrap "$name" "$kind" "$(find "$scratch/lib-$suite" -name 'ld-linux-x86-64.so.2' | head -1) --argv0 redis-PROGRAM --library-path $scratch/lib-$suite/usr/lib/x86_64-linux-gnu"
}

wrap() { # a name, redis or valkey, and by what its programs are started
    local program from
    mkdir -p "$scratch/bin/$1"
    for program in server cli; do
        from=$scratch/$1/usr/bin/$2-${program/server/check-rdb}
        printf '#!/bin/bash\nexec %s %s "$@"\n' "${3//PROGRAM/$program}" "$from" >"$scratch/bin/$1/redis-$program"
    done
    chmod +x "$scratch/bin/$1"/*
}

unpack valkey-bookworm-backports bookworm-backports valkey-tools
wrap valkey-bookworm-backports valkey "-a redis-PROGRAM"
for suite in trixie sid; do
    version "$suite" valkey
    version "$suite" redis
done
unset APT_CONFIG

failed=0
for bin in "$scratch"/bin/*; do
    echo "redis-versions: $("$bin/redis-server" --version)"
    PATH=$bin:$PATH HEYMARKET_REQUIRE_ALL=1 go test -count=1 ./internal/receiver/stream ./internal/controller/redisusers || failed=1
done
exit "$failed"
