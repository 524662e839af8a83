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

# The scenarios in which the gate itself has a login at its upstream; what it is comes with the scenario.
credential() {
  "$python" - "$1" <<'PYTHON'
import json, os, sys

context = json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])
key = context.get("private_key_pem")
path = f"{sys.argv[1]}/secret"
open(path, "w").write(key or context["client_secret"])
print("[upstreams.reference.credential]")
print('kind = "client_credentials"\ndiscover = true')
print("client_id =", json.dumps(context["client_id"]))
if key:
    print(f'private_key = "file:{path}"\nalgorithm = "{context.get("signing_algorithm", "ES256")}"')
else:
    print(f'client_secret = "file:{path}"')
PYTHON
}

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
guard.arguments = "off" # calls of the suites break the schemas of their own tools: null, and what is required left out

[upstreams.reference]
$server
$([ -z "${GATEWAY_AUTH:-}" ] || credential "$folder")
TOML
exec "$tollgate" run --config "$folder/routes.toml"
