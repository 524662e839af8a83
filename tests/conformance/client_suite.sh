#!/usr/bin/env bash
# usage: client_suite.sh 2025-11-25|2026-07-28 LABEL [auth|noauth|all]: the client scenarios, played by drive.py.
# With GATEWAY set (see bridge.sh), drive.py puts the gateway between itself and the scenario's server, so that the
# gateway's upstream side is under test. GATEWAY_AUTH and DRIVER_ERA are honoured too.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
revision=$1 out=$results/$2.$1 filter=${3:-all}
rm -rf "$out"
mkdir -p "$out"

scenarios() {
  "${suite_alpha[@]}" list --requirements "$revision" | awk '/^Client scenarios/ { client = 1 } client' | grep -v '\[server\]' |
    sed -n 's/^ *- \([a-z0-9_][A-Za-z0-9/_-]*\).*/\1/p'
}

for scenario in $(scenarios); do
  case $filter/$scenario in
    auth/auth/* | all/*) ;;
    noauth/auth/* | auth/*) continue ;;
  esac
  log=$out/${scenario//\//_}.log
  timeout 200 "${suite_alpha[@]}" client --command "$python $kit/drive.py" --scenario "$scenario" \
    --spec-version "$revision" --force --timeout 150000 -o "$out" >"$log" 2>&1
  echo "$2 $revision $scenario: $(grep ^Passed: "$log" || echo "nothing passed, see $log")"
done
