#!/usr/bin/env bash
# Installs what is missing to build (`setup.sh build`) or also to test (`setup.sh test`).
# Does nothing, and needs no root, when everything is there.
set -euo pipefail

mode=${1:-build}
cache=${AGENTSIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight}
rust_minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$1"; say "hint: $2"; exit 2; }

# command (or path) that proves it is there : Debian package
needs=(
  cc:gcc make:make clang:clang pkg-config:pkg-config
  /usr/include/libelf.h:libelf-dev /usr/include/zlib.h:zlib1g-dev
  /usr/include/linux/bpf.h:linux-libc-dev python3:python3 ip:iproute2
)
if [ "$mode" = test ]; then
  needs+=(curl:curl openssl:openssl node:nodejs npm:npm unshare:util-linux nm:binutils)
  # Clients whose TLS library is GnuTLS or Go's own.
  needs+=(git:git wget:wget go:golang-go)
fi

missing=()
for need in "${needs[@]}"; do
  probe=${need%%:*}
  package=${need#*:}
  if ! command -v "$probe" >/dev/null 2>&1 && ! [ -e "$probe" ]; then missing+=("$package"); fi
done
# Debian splits venv off from python3.
if [ "$mode" = test ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  missing+=(python3-venv)
fi

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null 2>&1 ||
    fail "not found: ${missing[*]} (Debian names)" "install them with this system's package manager"
  [ "$(id -u)" = 0 ] ||
    fail "packages to install: ${missing[*]}" "run as root once, or: sudo apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends ca-certificates "${missing[@]}" >/dev/null
fi

export PATH="$PATH:$HOME/.cargo/bin"
new_enough() {
  local found
  found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
  [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$rust_minimum" "$found" | sort -V | head -1)" = "$rust_minimum" ]
}
if ! command -v cargo >/dev/null 2>&1 || ! new_enough; then
  say "installing the Rust toolchain ($rust_minimum or newer is needed, Debian's is older)"
  command -v curl >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq curl >/dev/null; }
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal \
    --component clippy --component rustfmt >/dev/null ||
    fail "the Rust toolchain could not be installed" "install Rust $rust_minimum or newer from https://rustup.rs"
fi

if [ "$mode" = test ]; then
  # The readers that a trace must open in, and HTTP clients of Python to record. Optional: the tests
  # that use them say when they are skipped.
  venv=$cache/venv
  in_venv() { # imports, packages, what for
    if ! [ -x "$venv/bin/python3" ] || ! "$venv/bin/python3" -c "import $1" 2>/dev/null; then
      say "installing $2 into the cache"
      mkdir -p "$cache"
      # shellcheck disable=SC2086 # several packages
      { [ -x "$venv/bin/python3" ] || python3 -m venv "$venv"; } && "$venv/bin/pip" install -q $2 ||
        say "they could not be installed; tests that $3 will be skipped"
    fi
  }
  in_venv "duckdb, pyarrow, polars, fastparquet" "duckdb pyarrow polars fastparquet pandas" "open a trace in them"
  in_venv "requests, httpx, grpc" "requests httpx grpcio" "record them"
  # Major versions are pinned: what an SDK makes of an answer is the measure of what is found in it.
  in_venv "anthropic, openai, google.genai, brotli, backports.zstd" \
    "anthropic~=2.11 openai~=3.52 google-genai~=3.4 brotli backports.zstd" "ask them"
fi
