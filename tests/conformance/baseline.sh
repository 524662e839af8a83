#!/usr/bin/env bash
# usage: baseline.sh: the suites without a gateway between, written to direct.txt: what run.sh compares with.
# Then the same through a byte-transparent proxy, which must be equal: the harness itself adds nothing.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
bash "$kit/setup.sh" || exit 1
port=$(free_port)
timeout 1500 "$python" "$kit/everything.py" http --port "$port" >"$results/reference.log" 2>&1 &
trap 'kill $!' EXIT
wait_port "$port"
bash "$kit/server_suites.sh" "http://127.0.0.1:$port/mcp" direct
for revision in 2025-11-25 2026-07-28; do
  bash "$kit/client_suite.sh" $revision direct-client noauth
done
"$python" "$kit/compare.py" record >"$kit/direct.txt"
echo "wrote $kit/direct.txt"

export GATEWAY="$python $kit/toy_proxy.py {port} {url}"
bash "$kit/bridge.sh" http-dual
for revision in 2025-11-25 2026-07-28; do
  bash "$kit/client_suite.sh" $revision client noauth
done
"$python" "$kit/compare.py" compare http-dual client
