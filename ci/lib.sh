# shellcheck shell=bash
# What ci/test and ci/windows share; sourced by both, at the root of the checkout.

target=${CARGO_TARGET_DIR:-target}
logs=$target/ci
job=

# Debian's names; what the tests, the cross-build and the run under Wine need.
# shellcheck disable=SC2034
host_packages=(gcc libc6-dev pkg-config python3 socat netcat-openbsd strace valgrind util-linux procps)
# shellcheck disable=SC2034
other_packages=(nodejs python3-pip python3-setuptools python3-wheel) # for libraries in other languages
# shellcheck disable=SC2034
windows_packages=(ca-certificates rustc-web cargo-web rust-web-src rust-web-clippy gcc-mingw-w64-x86-64)
# shellcheck disable=SC2034
wine_packages=(wine wine64)

mkdir -p "$logs"
export LC_ALL=C.UTF-8 CARGO_TERM_COLOR=never

# Without line tables, and from nothing also without what would help to build it again, the builds take a third
# less, and a quarter of the room.
export CARGO_PROFILE_DEV_DEBUG=0
[ -d "$target/debug" ] || export CARGO_INCREMENTAL=0
# More at a time than there are cores: many tests wait for time to pass, or for another process.
threads=$(($(nproc) + 2))
export NEXTEST_TEST_THREADS=$threads RUST_TEST_THREADS=$threads

# The script's own header comment is its help text.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf '\n%s: %s\n' "$0" "$*" >&2
    exit 1
}

# run NAME SECONDS COMMAND...: one step. Its output is shown, and kept in target/ci/NAME.log; how long it took, in
# target/ci/times.
# The command gets a process group of its own, so that a timeout or Ctrl-C ends all of it.
run() {
    local name=$1 limit=$2 status=0 began=$SECONDS viewer
    local log=$logs/$name.log
    shift 2
    step "$name: $*"
    : >"$log" # or the viewer may come first and find nothing
    set -m
    timeout -k 10 "$limit" "$@" </dev/null >"$log" 2>&1 &
    job=$!
    set +m
    tail -n +1 -s 0.2 -f --pid="$job" "$log" &
    viewer=$!
    wait "$job" || status=$?
    wait "$viewer" || true
    job=
    printf '%5d s  %s\n' $((SECONDS - began)) "$name" >>"$logs/times"
    [ "$status" -eq 0 ] || step "$name: FAILED ($status) after $((SECONDS - began)) s of at most $limit"
    return "$status"
}

stop_job() { [ -z "$job" ] || kill -- "-$job" 2>/dev/null || true; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$logs/apt.log" 2>&1
}

# need_cargo COMMAND...: builds those of cargo's commands, and of others that cargo installs, that are missing, or fails and names them.
need_cargo() {
    local command missing=()
    for command in "$@"; do
        case $command in
            cargo-*) cargo "${command#cargo-}" --version ;;
            *) PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin "$command" --version ;;
        esac >/dev/null 2>&1 || missing+=("$command")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "cargo install --locked ${missing[*]}"
    cargo install --locked "${missing[@]}" </dev/null >"$logs/cargo-install.log" 2>&1 || {
        tail -n 20 "$logs/cargo-install.log" >&2
        fail "could not install: ${missing[*]} (what cargo said: $logs/cargo-install.log)"
    }
}

# need_nightly COMPONENT...: a nightly compiler with these, or fails and says how to get it.
need_nightly() {
    local there component missing=()
    there=$(rustup component list --installed --toolchain nightly 2>/dev/null) ||
        fail "there is no nightly compiler: rustup toolchain install nightly --profile minimal --component $(IFS=,; echo "$*")"
    for component in "$@"; do
        grep -q "^$component\b" <<<"$there" || missing+=("$component")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "rustup component add ${missing[*]}"
    rustup component add --toolchain nightly "${missing[@]}" </dev/null >"$logs/rustup.log" 2>&1 || {
        tail -n 20 "$logs/rustup.log" >&2
        fail "the nightly compiler lacks ${missing[*]}, and could not get it"
    }
}

# lacking PACKAGE...: those of Debian's packages that are missing.
lacking() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# apt_install PACKAGE...: by apt, whose lists are fetched once. What it says is in apt.log.
is_updated=
apt_install() {
    step "apt-get install $*"
    [ -n "$is_updated" ] || apt_get update || true
    is_updated=yes
    apt_get install --no-install-recommends --no-remove "$@"
}

# need PACKAGE...: installs the Debian packages that are missing, or fails and names them.
need() {
    local missing
    mapfile -t missing < <(lacking "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    as_root true 2>/dev/null || fail "missing packages, and no right to install them: ${missing[*]}"
    apt_install "${missing[@]}" || {
        tail -n 20 "$logs/apt.log" >&2
        fail "could not install: ${missing[*]} (what apt said: $logs/apt.log)"
    }
}

# want PACKAGE...: the same for those whose tests say that they are left out where it is missing.
want() {
    local missing package
    mapfile -t missing < <(lacking "$@")
    for package in "${missing[@]}"; do
        { as_root true 2>/dev/null && apt_install "$package"; } || step "could not install: $package; its tests are left out"
    done
}
