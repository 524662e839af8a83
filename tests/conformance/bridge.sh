#!/usr/bin/env bash
# usage: bridge.sh [http-dual http-legacy http-modern sse stdio]
# Every server suite through the built gate onto every kind of upstream; or through another gateway:
#   GATEWAY='COMMAND --listen 127.0.0.1:{port} --upstream {url}'
#   GATEWAY_STDIO='COMMAND --listen 127.0.0.1:{port} --stdio "{cmd}"'
set -u
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -n "${GATEWAY:-}" ] || GATEWAY="$gate --upstream {url}"
[ -n "${GATEWAY_STDIO:-}" ] || GATEWAY_STDIO="$gate --stdio \"{cmd}\""
pids=()
trap 'kill "${pids[@]}" 2>/dev/null' EXIT

reference() { # ARGUMENTS…: the reference server
  timeout 1700 "$python" "$kit/everything.py" "$@" >"$results/reference.log" 2>&1 &
  pids+=($!)
}

for kind in ${*:-http-dual http-legacy http-modern sse stdio}; do
  upstream=$(free_port)
  case $kind in
    http-*) reference http --port "$upstream" --era "${kind#http-}" && wait_port "$upstream"
            command=${GATEWAY//\{url\}/http://127.0.0.1:$upstream/mcp} ;;
    sse)    reference sse --port "$upstream" && wait_port "$upstream"
            command=${GATEWAY//\{url\}/http://127.0.0.1:$upstream/sse} ;;
    stdio)  command=${GATEWAY_STDIO//\{cmd\}/$python $kit/everything.py stdio} ;;
    *)      echo "unknown kind of upstream: $kind" >&2; exit 2 ;;
  esac
  port=$(free_port)
  eval "timeout 1700 ${command//\{port\}/$port} >'$results/gate.$kind.log' 2>&1 &"
  pids+=($!)
  wait_port "$port" && bash "$kit/server_suites.sh" "http://127.0.0.1:$port/mcp" "$kind"
done
