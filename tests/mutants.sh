#!/usr/bin/env bash
# usage: tests/mutants.sh [MODULE…]: mutates the modules that decide what is allowed, each against the tests beside the
# code, and says how many mutations were caught, missed and not tried. Needs `cargo install cargo-mutants`.
# MINUTES (60) is the time for each module; the lists are in target/mutants/MODULE/mutants.out/.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
minutes=${MINUTES:-60}
modules=("$@")
[ ${#modules[@]} -gt 0 ] || modules=(policy resolve proofs park)

failed=0
for module in "${modules[@]}"; do
  case $module in
    resolve) files=(--file 'src/pipeline/**/resol*.rs') tests=(pipeline::) ;;
    # What a call must hold to be sent, wherever that is defined.
    proofs)
      mapfile -t files < <(git grep -lE 'pub struct (Permit|RouteAdmission|Admission|Attempt|Clearance)\b' -- src | sed 's/^/--file=/')
      tests=()
      ;;
    # A file, such as limit/bucket.rs, against the tests of its folder.
    *.rs) files=(--file "src/$module") tests=("${module%%/*}::") ;;
    *) files=(--file "src/$module/**") tests=("${module//\//::}::") ;;
  esac
  out=target/mutants/$module
  mkdir -p "$out"
  all=$(cargo mutants --list "${files[@]}" | wc -l)
  if [ "$all" = 0 ]; then
    echo "mutants of $module: there is no such code" >&2
    failed=1
    continue
  fi
  timeout "${minutes}m" cargo mutants --no-shuffle --timeout 120 --output "$out" "${files[@]}" \
    -- --locked --lib "${tests[@]}" >"$out/log" 2>&1
  ended=$?
  count() { wc -l 2>/dev/null <"$out/mutants.out/$1.txt" || echo 0; }
  caught=$(count caught) missed=$(count missed) late=$(count timeout) unviable=$(count unviable)
  tried=$((caught + missed + late + unviable))
  echo "mutants of $module: $all in all; $caught caught, $late out of time, $missed missed, $unviable do not compile," \
    "$((all - tried)) not tried"
  [ "$missed" = 0 ] || sed 's/^/  missed: /' "$out/mutants.out/missed.txt"
  # 2 and 3 say that some were missed or out of time, 124 that the minutes were over.
  case $ended in 0 | 2 | 3 | 124) ;; *) tail -20 "$out/log"; failed=1 ;; esac
done
exit $failed
