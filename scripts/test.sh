#!/usr/bin/env bash
# Runs every test. Live tests (real BPF, real agents) run one at a time, as they share the host.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${AGENTSIGHT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight}
if [ -x "$cache/venv/bin/python3" ]; then export AGENTSIGHT_TEST_PYTHON="$cache/venv/bin/python3"; fi
if [ "$(id -u)" != 0 ]; then
  echo "SKIPPED: tests that record a live host need root; run 'sudo make test' for all of them" >&2
fi
exec cargo test --all-targets --no-fail-fast "$@"
