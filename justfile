# https://just.systems: `just` lists these.

_list:
    @just --list --unsorted

# format, lints and types, without running anything
check:
    cargo fmt --check
    cargo clippy --locked --all-targets --features internals -- -D warnings

# one part of the tests: `just test --test it audit`
test *arguments:
    cargo test --locked {{ arguments }}

# what needs cargo and a C compiler only
quick:
    bash tests/run.sh --quick

# all that the continuous integration runs
whole:
    bash tests/run.sh

# fuzzing for minutes, and mutations, besides
night:
    bash tests/run.sh --night

# one fuzz target for so many seconds: `just fuzz sse 60`
fuzz target seconds="60":
    bash fuzz/run.sh {{ seconds }} {{ target }}

# the shape of the sources: sizes of files and functions, circles, names defined twice
shape:
    cargo test --locked --test tidy -- --exact shape::shape --nocapture

# instructions of each stage of a call; needs valgrind for exact counts
bench:
    cargo bench --features internals --bench way

# what the images hold: built with what the calls of the bench taught the compiler
pgo *arguments:
    bash benches/pgo.sh {{ arguments }}

# the gate with ./routes.toml
run *arguments:
    cargo run -- {{ arguments }}
