#!/usr/bin/env bash
# Runs an OpenID provider of another make than tests/parts/oidc: Glewlwyd, on loopback. All that it makes is under DIR.
#
#   run.sh DIR PORT REDIRECT_URI…
#
# Prints "ready" on stdout, then runs until SIGTERM. Issuer http://127.0.0.1:PORT/api/oidc, RS256, code flow with
# PKCE, refresh. Client "gateway" with the secret "gateway-secret", confidential; people alice and dana, whose password
# is "password"; claims sub, name, email, groups, company, country. Its pages are made by a script in the browser: to
# sign in without one, POST /api/auth/ and PUT /api/auth/grant/gateway, as idp.rs does.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: run.sh DIR PORT REDIRECT_URI…" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
port=$2
shift 2
url=http://127.0.0.1:$port
started_s_max=30
install=/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3
[ -e "$install" ] || { echo "idp2: not installed; run tests/parts/install.sh idp2" >&2; exit 1; }

fail() {
    printf 'idp2: %s\n' "$*" >&2
    tail -n 5 log >&2 || true
    exit 1
}

umask 077
rm -f glewlwyd.db cookies
# With members of a person that the database does not know of by itself.
python3 - "$install" <<'PYTHON'
import json, sqlite3, sys
database = sqlite3.connect("glewlwyd.db")
database.executescript(open(sys.argv[1]).read())
(parameters,) = database.execute("SELECT gumi_parameters FROM g_user_module_instance").fetchone()
parameters = json.loads(parameters)
for name in ("groups", "company", "country"):
    rights = {"read": True, "write": True, "profile-read": True, "profile-write": False}
    parameters["data-format"][name] = {"multiple": name == "groups", **rights}
database.execute("UPDATE g_user_module_instance SET gumi_parameters = ?", (json.dumps(parameters),))
database.commit()
PYTHON
cat >glewlwyd.conf <<CONF
port=$port
bind_address="127.0.0.1"
external_url="$url"
login_url="login.html"
api_prefix="api"
static_files_path="/usr/share/glewlwyd/webapp/"
static_files_mime_types = (
  { extension = ".html" mime_type = "text/html" compress = 0 },
  { extension = ".css" mime_type = "text/css" compress = 0 },
  { extension = ".js" mime_type = "application/javascript" compress = 0 },
  { extension = ".json" mime_type = "application/json" compress = 0 }
)
log_mode="console"
log_level="WARNING"
cookie_domain="127.0.0.1"
cookie_secure=0
session_expiration=3600
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
database = { type = "sqlite3" path = "$PWD/glewlwyd.db" }
CONF

# The kernel ends it when this script does, however that ends.
setpriv --pdeathsig KILL glewlwyd -c glewlwyd.conf >log 2>&1 </dev/null &
server=$!
trap 'kill -KILL "$server" 2>/dev/null || true' EXIT
trap 'exit 143' TERM
until curl --silent --fail --output /dev/null "$url/config"; do
    kill -0 "$server" 2>/dev/null || fail "ended while it started"
    [ "$SECONDS" -lt "$started_s_max" ] || fail "not ready after $started_s_max s"
    sleep 0.05
done

# call METHOD PATH: sends the JSON on standard input as the administrator
call() {
    curl --silent --show-error --fail-with-body --cookie cookies --cookie-jar cookies --output answer \
        --request "$1" --header 'Content-Type: application/json' --data-binary @- "$url/api/$2" \
        || fail "$1 $2: $(cat answer)"
}

# The key pair is the provider's own, of this run.
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem
openssl pkey -in key.pem -pubout -out public.pem

call POST auth/ <<<'{"username": "admin", "password": "password"}'
jq --null-input --rawfile key key.pem --rawfile cert public.pem --arg iss "$url/api/oidc" '
    def claim($name): {name: $name, "user-property": $name, type: "string", mandatory: true, scope: ["openid"]};
    {
      module: "oidc", name: "oidc", display_name: "OpenID Connect", enabled: true,
      parameters: {
        iss: $iss, "jwt-type": "rsa", "jwt-key-size": "256", key: $key, cert: $cert, "jwks-show": true,
        "access-token-duration": 3600, "refresh-token-duration": 86400, "code-duration": 60,
        "refresh-token-rolling": true, "refresh-token-one-use": "always", "auth-type-code-enabled": true,
        "auth-type-code-revoke-replayed": true, "auth-type-token-enabled": false, "auth-type-none-enabled": false,
        "auth-type-password-enabled": false, "auth-type-client-enabled": false, "auth-type-device-enabled": false,
        "auth-type-refresh-enabled": true, "pkce-allowed": true, "pkce-required": true,
        "pkce-method-plain-allowed": false, "subject-type": "public",
        "allowed-scope": ["openid"], "name-claim": "mandatory", "email-claim": "mandatory", "scope-claim": "no",
        claims: [claim("groups"), claim("company"), claim("country")]
      }
    }' | call POST mod/plugin/
person() {
    jq --null-input --arg name "$1" --argjson groups "$2" '{
        username: $name, name: $name, email: "\($name)@example.com", password: "password", enabled: true,
        scope: ["openid"], groups: $groups, company: "acme-de", country: "DE"}' | call POST user/
}
person alice '["engineer"]'
person dana '["dba", "approver"]'
printf '%s\n' "$@" | jq --raw-input --slurp '{
    client_id: "gateway", name: "gateway", client_secret: "gateway-secret", confidential: true, enabled: true,
    redirect_uri: (split("\n") | map(select(. != ""))), authorization_type: ["code", "refresh_token"],
    token_endpoint_auth_method: ["client_secret_basic", "client_secret_post"], scope: []}' | call POST client/

printf 'ready\n'
wait "$server"
