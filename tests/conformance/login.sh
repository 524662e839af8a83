#!/usr/bin/env bash
# usage: login.sh: the scenarios in which the gate itself logs in at its upstream, with a secret and with a signed
# assertion. Fails where a check does.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export GATEWAY_AUTH=1 GATEWAY="$gate --upstream {url}"
failed=0
for scenario in auth/client-credentials-basic auth/client-credentials-jwt; do
  out=$results/login/${scenario#auth/}
  rm -rf "$out"
  mkdir -p "$out"
  timeout 200 "${suite_alpha[@]}" client --command "$python $kit/drive.py" --scenario "$scenario" \
    --force --timeout 150000 -o "$out" >"$out/log" 2>&1
  echo "login $scenario: $(grep ^Passed: "$out/log" || echo "nothing passed, see $out/log")"
  grep -q '^Passed: .*, 0 failed' "$out/log" || failed=1
done
exit $failed
