#!/usr/bin/env bash
# Records a small agent that talks TLS to a mock LLM on loopback, and prints the report.
# usage: scripts/demo.sh DIRECTORY   (where the built programs are; `make demo` knows)
set -euo pipefail
cd "$(dirname "$0")/.."
programs=${1:?usage: scripts/demo.sh DIRECTORY-OF-PROGRAMS}
fixture=fixtures/traces/demo.parquet

say() { printf '\ndemo: %s\n' "$*" >&2; }

# The recorded agent runs as the user behind sudo and has to read the certificate.
work=$(mktemp -d)
chmod 755 "$work"
mkfifo "$work/stop" "$work/address"
cleanup() {
  rm -f "$work/stop" "$work/address" "$work/ca.pem"
  rmdir "$work" 2>/dev/null || true # holds the trace when there is one
}
trap cleanup EXIT

# The mock runs until its standard input ends, which is when this script does, however it does.
"$programs/examples/mock-llm" --script demo --ca-out "$work/ca.pem" --truth "$work/truth.jsonl" \
  --until-eof <"$work/stop" >"$work/address" &
exec 3>"$work/stop"
read -r _ _ url <"$work/address"

say "recording a small agent against a mock LLM at $url"
# Neither the recorder nor the agent may hold the pipe that keeps the mock alive.
status=0
"$programs/agentsight-rec" --interval 100ms -o "$work/run.parquet" -- \
  python3 scripts/demo_client.py "$url" "$work/ca.pem" 3>&- || status=$?
exec 3>&-
wait

case $status in
  0) trace=$work/run.parquet ;;
  2)
    say "this host does not let the recorder work, for the reason above;" \
      "this is the report of the recording that comes with the repository"
    rm -f "$work/truth.jsonl"
    trace=$fixture
    ;;
  *)
    say "the recorded agent failed with exit code $status"
    exit 1
    ;;
esac

say "report of $trace"
"$programs/agentsight-report" "$trace"
say "ask it more, for example:"
printf '  %s %s %s\n' "$programs/agentsight-query" "$trace" \
  '"select comm, argv, exit_code, peak_rss_bytes from processes"' >&2
