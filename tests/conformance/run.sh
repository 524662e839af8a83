#!/usr/bin/env bash
# The official conformance suites through the gate, onto every kind of upstream and with the gate as the client of every
# scenario, in its client's era and across; compared check by check with a direct connection (direct.txt).
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
bash "$kit/setup.sh" || exit 1
rm -rf "$CONFORMANCE_HOME/gates"
export GATEWAY="$gate --upstream {url}"
kinds="http-dual http-legacy http-modern sse stdio"
# shellcheck disable=SC2086 # several words
bash "$kit/bridge.sh" $kinds
for revision in 2025-11-25 2026-07-28; do
  bash "$kit/client_suite.sh" $revision client noauth
  for era in legacy modern; do
    DRIVER_ERA=$era bash "$kit/client_suite.sh" $revision client-$era noauth
  done
done
bash "$kit/login.sh"
login=$?
# shellcheck disable=SC2086
"$python" "$kit/compare.py" compare $kinds client client-legacy client-modern && [ $login = 0 ]
