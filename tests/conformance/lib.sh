# Sourced by every script of this folder: where things are, and what starts and waits for them.
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$kit/../.." && pwd)
export CONFORMANCE_HOME=${CONFORMANCE_HOME:-$repository/target/conformance}
results=$CONFORMANCE_HOME/out
python=$CONFORMANCE_HOME/py/bin/python

gate="bash $kit/gate.sh --listen 127.0.0.1:{port}" # as GATEWAY has it

# The suites need Node 22; setup.sh installs one where the machine's is older.
node=$CONFORMANCE_HOME/node/node_modules/node/bin/node
[ -x "$node" ] || node=node

suite_016=("$node" "$CONFORMANCE_HOME/c016/node_modules/@modelcontextprotocol/conformance/dist/index.js")
suite_alpha=("$node" "$CONFORMANCE_HOME/ca12/node_modules/@modelcontextprotocol/conformance/dist/index.js")

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_port() {
  for _ in $(seq 150); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
    sleep 0.2
  done
  echo "port $1 never opened" >&2
  return 1
}
