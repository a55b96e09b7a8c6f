# shellcheck shell=bash
# For the scripts that run tests: installs a missing command, on Debian as root. Elsewhere it says what to install.
install() { # a command, the Debian package that has it, and what needs it
    if command -v "$1" >/dev/null; then return; fi
    echo "installing $2, which $3"
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        echo "$1 is missing and only root on Debian can have it installed here; install it (Debian: apt-get install $2) and run again." >&2
        exit 1
    fi
    # A package with a server would start it; the tests start their own.
    { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } >/tmp/heymarket-apt.log 2>&1 ||
        { cat /tmp/heymarket-apt.log >&2; echo "$2 could not be installed, see above." >&2; exit 1; }
}
