#!/usr/bin/env bash
# Runs the OpenID provider of server.mjs, or gets a token from it. See there for people, claims and test hooks.
#
#   run.sh PORT [--until-eof] [--setup FILE]
#                                 prints "ready", or "ready PORT" if PORT is 0;
#                                 runs until SIGTERM (or until standard input ends)
#   run.sh token PORT USER        logs USER in by the code flow and prints the id_token
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
locations=$("$here/../install.sh" env)
while IFS='=' read -r name path; do
    export "$name=$path"
done <<<"$locations"
[ -x "$WEIR_NODE" ] && [ -d "$WEIR_OIDC_MODULES" ] \
    || { echo "oidc: not installed; run tests/parts/install.sh oidc" >&2; exit 1; }

case ${1:-} in
    token) exec "$WEIR_NODE" "$here/token.mjs" "http://127.0.0.1:$2" "$3" ;;
    *[!0-9]* | '') echo "usage: run.sh PORT [--until-eof] [--setup FILE] | run.sh token PORT USER" >&2; exit 2 ;;
    *) exec "$WEIR_NODE" "$here/server.mjs" "$@" ;;
esac
