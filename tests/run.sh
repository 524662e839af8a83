#!/usr/bin/env bash
# usage: tests/run.sh [--quick | --night]: the tests, one step after the other, in three tiers.
#   --quick   format, lints and the tests in Rust: needs cargo and a C compiler only
#   (none)    what the continuous integration runs: licences, documents, Redis, real servers and clients, the official
#             conformance suite, the build with pingora, seconds of fuzzing
#   --night   all that, minutes of fuzzing for each target, and mutations
# What the tests install goes to target/; the only other thing written is npx's cache.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tier=whole
case "${1:-}" in
  --quick) tier=quick ;;
  --night) tier=night ;;
  '') ;;
  *) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
esac
fuzz_seconds=5
[ $tier = night ] && fuzz_seconds=300

# Where rustup may fetch nothing, and the toolchain that is there by another name is the one of rust-toolchain.toml.
pinned=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
if ! cargo --version >/dev/null 2>&1 && rustc +stable --version 2>/dev/null | grep -q "^rustc $pinned "; then
  export RUSTUP_TOOLCHAIN=stable
fi

missing=()
require() { # WHAT COMMAND…: the command says whether it is there
  "${@:2}" >/dev/null 2>&1 || missing+=("$1")
}
require "cargo $pinned (https://rustup.rs)" cargo --version
require "cc, a C compiler (Debian: apt install gcc libc6-dev)" cc --version
if [ $tier != quick ]; then
  require "c++, a compiler of C++ (Debian: apt install g++)" c++ --version
  require "python3 of version 3.10 or later (Debian: apt install python3)" \
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'
  require "python3's venv (Debian: apt install python3-venv)" python3 -c 'import venv, ensurepip'
  require "node of version 20 or later (https://nodejs.org)" \
    node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'
  require "redis-server (Debian: apt install redis-server)" redis-server --version
  require "initdb of PostgreSQL (Debian: apt install postgresql)" \
    bash -c 'command -v initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb"'
  require "npm and npx (they come with node)" npx --version
fi
if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}"
  [ $tier = quick ] || echo "tests/run.sh --quick needs cargo and cc only."
  exit 2
fi

passed=() failed=() left_out=() times=()
mkdir -p target
said=$(mktemp target/said.XXXXXX)
trap 'rm -f "$said"*' EXIT
step() { # NAME COMMAND…
  echo
  echo "== $1: ${*:2}"
  local begun=$SECONDS
  # With pipefail, the status is that of the command.
  if "${@:2}" 2>&1 | tee "$said"; then
    passed+=("$1")
    echo "== $1: passed in $((SECONDS - begun)) s"
  else
    failed+=("$1")
    mv "$said" "$said.$1"
    echo "== $1: FAILED after $((SECONDS - begun)) s"
  fi
  times+=("$1 $((SECONDS - begun)) s")
}
# What a step that failed had to say of it, said again at the end: above, it is lost among the rest.
retell() { # NAME
  echo "== $1 failed:"
  grep -aE -A 12 '^(FAILED|failures:|error(\[|:)|thread .* panicked|  (left|right): )|\.\.\. FAILED$|ERROR' "$said.$1" | tail -n 60
  echo "== the last lines of $1:"
  tail -n 15 "$said.$1"
}
optional() { # NAME TOOL HINT COMMAND…: a step that is left out where its tool is missing
  if command -v "$2" >/dev/null 2>&1; then
    step "$1" "${@:4}"
  else
    left_out+=("$1: there is no $2 ($3)")
  fi
}

step format cargo fmt --all --check
step lint cargo clippy --locked --all-targets --features internals -- -D warnings
# What is shipped has no door to its internals: only so the compiler reports what nobody uses.
step lint-shipped cargo clippy --locked -- -D warnings
step tests cargo test --locked
if [ $tier != quick ]; then
  optional licences cargo-deny "cargo install cargo-deny" cargo deny check licenses bans sources
  step documents env RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
    cargo doc --locked --no-deps --document-private-items
  step shape cargo test --locked --test tidy -- --exact shape::shape --nocapture
  step redis cargo test --locked --features internals --test it_redis
  step fuzz bash fuzz/run.sh $fuzz_seconds
  optional pingora cmake "Debian: apt install cmake" cargo test --locked --features pingora --test it_upgrade
  # The last build of target/debug/tollgate, which the steps below start, has the default features.
  step build cargo build --locked
  step real bash tests/real/run.sh
  step conformance bash tests/conformance/run.sh
fi
if [ $tier = night ]; then
  optional mutants cargo-mutants "cargo install cargo-mutants" bash tests/mutants.sh
fi

for name in "${failed[@]}"; do
  retell "$name"
done
echo
printf 'left out: %s\n' "${left_out[@]}" | sed '/: $/d'
printf '%s\n' "${times[@]}" | paste -sd, | sed 's/,/, /g'
printf '%s: %d min %d s\n' "$tier" $((SECONDS / 60)) $((SECONDS % 60))
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
echo "${#passed[@]} passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
