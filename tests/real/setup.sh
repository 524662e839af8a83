#!/usr/bin/env bash
# Installs the clients of both official SDKs into $REAL_HOME (default: target/real) and puts the servers of the shipped
# routes.toml into npx's cache, so that no scene waits for a registry. Safe to repeat: what is there is kept.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${REAL_HOME:-$here/../../target/real}
packages="@modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0"

mkdir -p "$home"
if [ "$(cat "$home/installed" 2>/dev/null)" != "$packages" ]; then
  echo "installing $packages"
  # shellcheck disable=SC2086 # two words are two packages
  npm install --prefix "$home" --no-audit --no-fund --no-update-notifier --loglevel=error $packages >/dev/null
  echo "$packages" >"$home/installed"
fi
if ! "$home/py/bin/python" -c 'import mcp' 2>/dev/null; then
  echo "installing mcp==2.3.0"
  python3 -m venv "$home/py"
  "$home/py/bin/python" -m pip install --quiet --disable-pip-version-check mcp==2.3.0
fi
# The same specifiers as in routes.toml: npx keeps a cache entry for each.
grep -o '@modelcontextprotocol/server-[a-z]*@[0-9.]*' "$here/../../routes.toml" | sort -u | while read -r server; do
  (cd "$home" && npx --yes --loglevel=error --package="$server" --call true </dev/null)
done
