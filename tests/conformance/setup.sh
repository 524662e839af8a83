#!/usr/bin/env bash
# Installs both editions of the official conformance suite, a Node that runs them where the machine's is older than 22, and the
# reference server's Python into $CONFORMANCE_HOME (default: target/conformance). Safe to repeat: what is there is kept.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

npm_package() { # FOLDER PACKAGE@VERSION
  local folder=$CONFORMANCE_HOME/$1
  [ "$(cat "$folder/installed" 2>/dev/null)" = "$2" ] && return
  echo "installing $2"
  mkdir -p "$folder"
  npm install --prefix "$folder" --no-audit --no-fund --no-update-notifier --loglevel=error "$2" >/dev/null
  echo "$2" >"$folder/installed"
}

mkdir -p "$results"
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then
  npm_package node node@22.23.3
fi
npm_package c016 @modelcontextprotocol/conformance@0.1.16
npm_package ca12 @modelcontextprotocol/conformance@0.2.0-alpha.12
if ! "$python" -c 'import mcp, aiohttp' 2>/dev/null; then
  echo "installing mcp==2.3.0 aiohttp==3.14.5"
  python3 -m venv "$CONFORMANCE_HOME/py"
  "$python" -m pip install --quiet --disable-pip-version-check mcp==2.3.0 aiohttp==3.14.5
fi
