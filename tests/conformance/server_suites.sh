#!/usr/bin/env bash
# usage: server_suites.sh URL LABEL: the three server suites against URL; prints their totals.
# The suites' exit status sees only the scored scenarios, therefore compare.py reads every check they wrote.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
url=$1 label=$2

run() { # NAME COMMAND…: results go to out/LABEL.NAME
  local out=$results/$label.$1
  rm -rf "$out"
  mkdir -p "$out"
  timeout 300 "${@:2}" -o "$out" >"$out/log" 2>&1
  echo "$label $1: $(grep ^Total: "$out/log" || echo "no total, see $out/log")"
}

run 0.1.16 "${suite_016[@]}" server --url "$url" --suite all
run 2025-11-25 "${suite_alpha[@]}" server --url "$url" --requirements 2025-11-25
run 2026-07-28 "${suite_alpha[@]}" server --url "$url" --requirements 2026-07-28
