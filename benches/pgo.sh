#!/usr/bin/env bash
# Builds the binary for release with what a run of it taught the compiler (profile-guided
# optimization): builds it so that it counts its own branches, lets it serve the calls of the bench,
# and builds it again with these counts. Writes target/pgo/tollgate.
#
#   bash benches/pgo.sh [ARGUMENTS OF CARGO BUILD]      such as --features pingora
#
# Needs the toolchain's component llvm-tools; nginx is not needed. Three builds from the beginning:
# a quarter of an hour on eight cores. https://doc.rust-lang.org/rustc/profile-guided-optimization.html
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc --print host-tuple)
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$profdata" ] || { echo "llvm-profdata is missing: rustup component add llvm-tools" >&2; exit 1; }
work=${CARGO_TARGET_DIR:-$PWD/target}/pgo
rm -rf "$work/profiles" && mkdir -p "$work/profiles"

# With --target, flags are for what is shipped only, and build scripts run as ever.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $1" cargo build --locked --release --bin tollgate --target "$host" \
        --target-dir "$work/$2" "${@:3}"
}

build "-Cprofile-generate=$work/profiles" counting "$@"
# One file a process: a gate that ends writes its own.
LLVM_PROFILE_FILE=$work/profiles/%p.profraw TOLLGATE=$work/counting/$host/release/tollgate \
    cargo bench --locked --bench loopback -- beside quick
"$profdata" merge --output "$work/calls.profdata" "$work"/profiles/*.profraw
build "-Cprofile-use=$work/calls.profdata" used "$@"
cp "$work/used/$host/release/tollgate" "$work/tollgate"
echo "$work/tollgate"
