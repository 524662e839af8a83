#!/usr/bin/env bash
# usage: gate.sh --listen ADDRESS (--upstream URL | --stdio "COMMAND"): the built gate with one upstream on the route /mcp.
# TOLLGATE names the binary; the default is the one that `cargo build` makes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tollgate=${TOLLGATE:-${CARGO_TARGET_DIR:-$repository/target}/debug/tollgate}

while [ $# -gt 0 ]; do
  case $1 in
    --listen)   listen=$2 ;;
    --upstream) server="url = '$2'" ;;
    --stdio)    server="command = 'sh'
args = ['-c', 'exec $2']" ;;
    *)          echo "gate.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done

mkdir -p "$CONFORMANCE_HOME/gates" # emptied by run.sh
folder=$(mktemp -d "$CONFORMANCE_HOME/gates/XXXXXX")
cat >"$folder/routes.toml" <<TOML
[server]
listen = "$listen"
state = "$folder/state"
limits.settle = "20s" # the reference server may still be starting
limits.task_after = "300ms" # the suite's slow tools take a second or two
limits.stream_age = "600ms" # the gate closes streams too, and clients of 2025-11-25 read on

[routes."/mcp"]
upstreams = ["reference"]
names = "never"

[upstreams.reference]
$server
TOML
exec "$tollgate" run --config "$folder/routes.toml"
