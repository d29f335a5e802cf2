#!/usr/bin/env bash
# Runs the fuzz targets on stable Rust: scripts/fuzz.sh [SECONDS_PER_TARGET] [TARGET...]
#
# libFuzzer comes with libfuzzer-sys; the compiler's own flags give it the coverage it steers by.
# What a target has learned stays in the cache. A crash, a hang or too much memory fails the run
# and leaves the input.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-15}
shift || true
cache=${AGENTSIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}/fuzz
corpus=$cache/fuzz-corpus
host=$(rustc -vV | sed -n 's/^host: //p')

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

# As cargo-fuzz sets them, but for the sanitizer, which needs nightly.
flags=(
  --cfg fuzzing
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
)
# With --target the flags do not reach build scripts and macros, which libFuzzer is not linked to.
RUSTFLAGS="${flags[*]}" cargo build -q --profile fuzz --target "$host" -p agentsight-fuzz --bins

# Temporary files of the targets, in memory where there is such a place.
if [ -d /dev/shm ] && [ -w /dev/shm ]; then scratch=$(mktemp -d -p /dev/shm); else scratch=$(mktemp -d); fi
trap 'rm -rf "$scratch"' EXIT

failed=()
for target in "${targets[@]}"; do
  mkdir -p "$corpus/$target" "$corpus/crashes"
  seeds=()
  case $target in
    trace_bytes) seeds=(fixtures/traces); length=20000 ;;
    trace_*) length=1000 ;;
    *) seeds=(fixtures/transcripts); length=4000 ;;
  esac
  log=$scratch/$target.log
  run=("$CARGO_TARGET_DIR/$host/fuzz/$target" -rss_limit_mb=1024 -timeout=10 "-max_len=$length"
    "-artifact_prefix=$corpus/crashes/$target-")
  # The time limit is libFuzzer's; the other one is for the day when that does not hold.
  if TMPDIR=$scratch timeout --kill-after=10 $((seconds + 120)) "${run[@]}" -max_total_time="$seconds" \
    -print_final_stats=1 "$corpus/$target" "${seeds[@]}" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $target: $runs inputs in $seconds s, $(find "$corpus/$target" -type f | wc -l) kept"
  else
    failed+=("$target")
    echo "fuzz $target: FAILED" >&2
    grep -vE '^(#[0-9]|INFO|NEW_FUNC)' "$log" | tail -60 >&2
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    echo "fuzz $target: the input is ${input:-unknown}; again: ${run[0]} ${input:-INPUT}" >&2
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz: failed: ${failed[*]}" >&2
  exit 1
fi
