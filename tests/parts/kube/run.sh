#!/usr/bin/env bash
# Runs a real, empty-handed Kubernetes: etcd and kube-apiserver on loopback, seeded with seed.yaml; no node, no
# controllers. Everything it makes is under DIR, which it owns.
#
#   run.sh DIR PORT [--until-eof]
#
# Prints "ready" on stdout, then runs until SIGTERM (and with --until-eof until its standard input ends).
# DIR/gateway.kubeconfig  the gateway's own user weir-gateway, by bearer token: may impersonate, nothing else
# DIR/gateway-certificate.kubeconfig  the same user by client certificate
# DIR/admin.kubeconfig    system:masters
# DIR/ca.crt              the cluster's CA
# DIR/audit.log           one JSON object a line, see audit-policy.yaml
# DIR/etcd.log, DIR/apiserver.log
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || { echo "usage: run.sh DIR PORT [--until-eof]" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
port=$2
until_eof=${3:-}
started_s_max=60
# A UNIX socket's path has at most 107 characters, and etcd's is DIR/etcd.sock.
dir_length_max=90
[ ${#dir} -le $dir_length_max ] || { echo "kube: $dir is longer than $dir_length_max characters" >&2; exit 2; }

locations=$("$here/../install.sh" env)
while IFS='=' read -r name path; do
    export "$name=$path"
done <<<"$locations"
[ -x "$WEIR_KUBE" ] || { echo "kube: not installed; run tests/parts/install.sh kube" >&2; exit 1; }

exec 3<&0 </dev/null
children=()
# Nothing here is worth an orderly end, and an apiserver whose etcd is gone would take a minute over it.
stop() {
    trap - EXIT TERM INT
    if [ ${#children[@]} -gt 0 ]; then
        kill -KILL "${children[@]}" 2>/dev/null || true
        wait "${children[@]}" 2>/dev/null || true
    fi
}
trap stop EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

fail() {
    printf 'kube: %s\n' "$*" >&2
    tail -n 5 "$dir/etcd.log" "$dir/apiserver.log" >&2 2>/dev/null || true
    exit 1
}

# --- Keys --------------------------------------------------------------------------------------------------------

cd "$dir"
rm -rf etcd etcd.sock peer.sock
umask 077
: >audit.log # made here, so that the apiserver appends to it and it may be emptied at any time

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

# certificate NAME SUBJECT EXTENSIONS: a leaf of the cluster's CA
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" \
        | openssl x509 -req -CA ca.crt -CAkey ca.key -days 2 -extfile <(printf '%s\n' "$3") -out "$1.crt" 2>/dev/null
}

token() { openssl rand -hex 16; }

key ca
openssl req -x509 -new -key ca.key -subj /CN=weir-test-cluster -days 2 -out ca.crt \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign
certificate apiserver /CN=kube-apiserver \
    $'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes\nextendedKeyUsage=serverAuth'
certificate gateway /CN=weir-gateway extendedKeyUsage=clientAuth
openssl ecparam -name prime256v1 -genkey -noout -out service-account.key # the apiserver reads no PKCS #8 here
gateway_token=$(token)
admin_token=$(token)
printf '%s\n' "$gateway_token,weir-gateway,weir-gateway" "$admin_token,admin,admin,system:masters" >tokens.csv

# kubeconfig FILE USER-LINE…
kubeconfig() {
    local file=$1
    shift
    cat >"$file" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: test
    cluster:
      server: https://127.0.0.1:$port
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: user
    user:
$(printf '      %s\n' "$@")
contexts:
  - name: test
    context: {cluster: test, user: user}
current-context: test
YAML
}
kubeconfig gateway.kubeconfig "token: $gateway_token"
kubeconfig gateway-certificate.kubeconfig \
    "client-certificate-data: $(base64 -w0 gateway.crt)" "client-key-data: $(base64 -w0 gateway.key)"
kubeconfig admin.kubeconfig "token: $admin_token"

# --- Processes ---------------------------------------------------------------------------------------------------

# Each child is told by the kernel to end when this script does, however it ends.
run() {
    local log=$1
    shift
    setpriv --pdeathsig KILL "$@" >"$log" 2>&1 &
    children+=($!)
}

# etcd knows no password here, so it listens on sockets in DIR instead of ports that anyone on the machine reaches.
# It must name addresses for others to call, too; being alone, it calls none of them.
run etcd.log "$WEIR_KUBE" etcd --data-dir etcd --unsafe-no-fsync --log-level warn \
    --listen-client-urls "unix://$dir/etcd.sock" --advertise-client-urls http://127.0.0.1:1 \
    --listen-peer-urls "unix://$dir/peer.sock" --initial-advertise-peer-urls http://127.0.0.1:1 \
    --initial-cluster default=http://127.0.0.1:1
run apiserver.log "$WEIR_KUBE" kube-apiserver --etcd-servers="unix://$dir/etcd.sock" \
    --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$port" \
    --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key \
    --client-ca-file=ca.crt --token-auth-file=tokens.csv --authorization-mode=Node,RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=service-account.key \
    --service-account-signing-key-file=service-account.key --service-cluster-ip-range=10.0.0.0/24 \
    --endpoint-reconciler-type=none --disable-admission-plugins=ServiceAccount \
    --audit-policy-file="$here/audit-policy.yaml" --audit-log-path=audit.log --audit-log-mode=blocking-strict

ready() {
    [ "$(curl --silent --max-time 5 --cacert ca.crt "https://127.0.0.1:$port/readyz")" = ok ]
}
until ready; do
    for child in "${children[@]}"; do
        kill -0 "$child" 2>/dev/null || fail "ended while it started"
    done
    [ "$SECONDS" -lt "$started_s_max" ] || fail "not ready after $started_s_max s"
    sleep 0.1
done
KUBECONFIG=admin.kubeconfig "$WEIR_KUBECTL" apply --server-side --filename "$here/seed.yaml" >seed.log 2>&1 \
    || { cat seed.log >&2; fail "could not be seeded"; }
: >audit.log # the seed itself is nobody's business

printf 'ready\n'
if [ "$until_eof" = --until-eof ]; then
    cat <&3 >/dev/null &
    eof=$!
    children+=("$eof")
    wait -n "${children[@]}" || true
    kill -0 "$eof" 2>/dev/null || exit 0
else
    wait -n "${children[@]}" || true
fi
fail "etcd or the apiserver ended"
