#!/usr/bin/env bash
# The official conformance suites through the gate, compared check by check with a direct connection (direct.txt).
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
bash "$kit/setup.sh" || exit 1
rm -rf "$CONFORMANCE_HOME/gates"
export GATEWAY="$gate --upstream {url}"
bash "$kit/bridge.sh" http-dual
for revision in 2025-11-25 2026-07-28; do
  bash "$kit/client_suite.sh" $revision client noauth
done
"$python" "$kit/compare.py" compare http-dual client
