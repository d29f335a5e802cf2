#!/usr/bin/env bash
# Runs every test. Live tests (real BPF, real agents) run one at a time, as they share the host.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${AGENTSIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight}
if [ -x "$cache/venv/bin/python3" ]; then export AGENTSIGHT_TEST_PYTHON="$cache/venv/bin/python3"; fi
if [ "$(id -u)" != 0 ]; then
  echo "SKIPPED: tests that record a live host need root; run 'sudo make test' for all of them" >&2
fi
cargo test --all-targets --no-fail-fast "$@"
# A short look at every fuzz target; `make fuzz` takes a long one.
if [ $# -eq 0 ]; then scripts/fuzz.sh "${FUZZ_SECONDS:-15}"; fi
