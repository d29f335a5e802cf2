#!/usr/bin/env bash
# Tries the resolvers of TLS functions on published releases of agents, which are downloaded from npm
# into the cache and nowhere else: `scripts/test-resolvers.sh [AGENT:VERSION ...]`. Prints a Markdown
# table; the exit status is 1 if a release could not be had or has no line.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${AGENTSIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight}/releases
target=${CARGO_TARGET_DIR:-target}
profile=${AGENTSIGHT_PROFILE:-release}
releases=("$@")
if [ ${#releases[@]} -eq 0 ]; then
  releases=(
    codex:0.169.0 codex:0.163.0 codex:0.156.0 codex:0.146.0 codex:0.140.0 codex:0.130.0
    codex:0.118.0 codex:0.101.0 codex:0.72.0 codex:0.45.0
    claude-code:2.1.328 claude-code:2.1.305 claude-code:2.1.280 claude-code:2.1.250
    claude-code:2.1.221 claude-code:2.1.209 claude-code:2.1.197 claude-code:2.1.179
    claude-code:2.1.166 claude-code:2.1.152 claude-code:2.1.139 claude-code:2.1.122
    opencode:1.18.33 opencode:1.18.12 opencode:1.17.11 opencode:1.3.0 opencode:1.1.56 opencode:1.0.98
    bun:1.4.5 bun:1.3.14 bun:1.2.23 bun:1.1.45
  )
fi

say() { printf 'test-resolvers: %s\n' "$*" >&2; }

# package that carries the Linux x86-64 program of a release, and the program's place in it
package_of() {
  case $1 in
    # Releases before 0.99 carry the programs of all systems in one package.
    codex) if [ "$(printf '%s\n0.99.0\n' "$2" | sort -V | head -1)" = 0.99.0 ]; then
        echo "@openai/codex@$2-linux-x64"
      else
        echo "@openai/codex@$2"
      fi ;;
    claude-code) echo "@anthropic-ai/claude-code-linux-x64@$2" ;;
    opencode) echo "opencode-linux-x64@$2" ;;
    bun) echo "@oven/bun-linux-x64@$2" ;;
    *) return 1 ;;
  esac
}
program_of() {
  case $1 in
    codex) echo 'vendor/x86_64-unknown-linux-musl/(bin|codex)/codex$' ;;
    claude-code) echo 'package/claude$' ;;
    opencode) echo 'package/bin/opencode$' ;;
    bun) echo 'package/bin/bun$' ;;
    *) return 1 ;;
  esac
}

# The program of a release, downloaded unless it is there.
fetch() {
  local agent=$1 version=$2 file=$cache/$1-$2 package url archive member
  if [ -s "$file" ]; then echo "$file"; return; fi
  package=$(package_of "$agent" "$version") || { say "no such agent: $agent"; return 1; }
  url=$(npm view "$package" dist.tarball 2>/dev/null) && [ -n "$url" ] || return 1
  mkdir -p "$cache"
  archive=$(mktemp "$cache/download.XXXXXX")
  curl -sSfL "$url" -o "$archive" || { rm -f "$archive"; return 1; }
  member=$(tar tzf "$archive" | grep -E "$(program_of "$agent")" | head -1 || true)
  if [ -n "$member" ]; then tar xzOf "$archive" "$member" >"$file.part" && mv "$file.part" "$file"; fi
  rm -f "$archive"
  [ -s "$file" ] && echo "$file"
}

flags=()
if [ "$profile" = release ]; then flags=(--release); fi
cargo build --quiet --no-default-features --features record "${flags[@]}" --example resolve

missing=0
echo '| release | library | version | sites | time |'
echo '| --- | --- | --- | --- | --- |'
for release in "${releases[@]}"; do
  agent=${release%%:*}
  version=${release#*:}
  if ! file=$(fetch "$agent" "$version"); then
    say "cannot download $agent $version"
    missing=1
    continue
  fi
  lines=$("$target/$profile/examples/resolve" "$file") || { missing=1; continue; }
  while IFS=$'\t' read -r _ library of sites ms; do
    echo "| $agent $version | $library | $of | $sites | $ms |"
  done <<<"$lines"
done
exit $missing
