#!/usr/bin/env bash
# usage: run.sh [SCENE…]: the built gate among real servers and the official SDKs' clients; see scenes.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export REAL_HOME=${REAL_HOME:-$(cd "$here/../.." && pwd)/target/real}
bash "$here/setup.sh"
exec "$REAL_HOME/py/bin/python" "$here/scenes.py" "$@"
