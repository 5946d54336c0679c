#!/usr/bin/env bash
# Refuses a dependency whose licence we may not ship, a crate we have banned, and a second version of a crate that
# must exist once. The same rules as .deny.toml, for machines that cannot have cargo-deny; needs only cargo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

allowed_licences=(
    Apache-2.0 'Apache-2.0 WITH LLVM-exception' BSD-1-Clause BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0
    CDLA-Permissive-2.0 ISC MIT MIT-0 Unicode-3.0 Unlicense Zlib
)
# One TLS (rustls on aws-lc), one async runtime (tokio); the last three are GPL.
banned='openssl openssl-sys native-tls ring async-std smol async-io boring boring-sys
    spdy-mux kube-portforward asciinema'
once='rustls tokio tokio-rustls hyper h2 http axum aws-lc-rs aws-lc-sys libsqlite3-sys'

# Is the SPDX expression satisfied by what we allow? Every name becomes 1 or 0, then bash's arithmetic decides;
# "/" is how old manifests write OR. A name that is not on the list is 0, so anything unknown is a no.
permitted() {
    local expression=${1//\// OR } terms='' term
    expression=${expression//(/ ( } expression=${expression//)/ ) }
    expression=${expression// WITH /-WITH-}
    for term in $expression; do
        case $term in
            AND) terms+=' && ' ;;
            OR) terms+=' || ' ;;
            '(' | ')') terms+=$term ;;
            *) terms+=$(known "${term//-WITH-/ WITH }") ;;
        esac
    done
    [ -n "$terms" ] && (( terms ))
}

known() {
    local licence
    for licence in "${allowed_licences[@]}"; do
        if [ "$1" = "$licence" ]; then echo 1; return; fi
    done
    echo 0
}

own=$(sed -n '/^\[package\]/,/^\[/s/^name = "\(.*\)"/\1/p' Cargo.toml)
crates=$(cargo tree --locked --edges normal,build,dev --target all --prefix none --format '{p}|{l}' \
    | sed -E 's/ \(\*\)$//; s/ \((proc-macro|[^|]*\/[^|]*)\)//g' | sort -u)
refused=0
refuse() {
    printf 'licences: %s\n' "$*" >&2
    refused=1
}

count=0
while IFS='|' read -r crate licence; do
    count=$((count + 1))
    permitted "$licence" || refuse "$crate is under \"$licence\", which is not allowed"
    for name in $banned; do
        [ "${crate%% *}" != "$name" ] || refuse "$crate is banned; cargo tree -i $name says who wants it"
    done
done <<<"$crates"
for name in $once; do
    versions=$(grep -c "^$name v" <<<"$crates" || true)
    [ "$versions" -le 1 ] || refuse "$versions versions of $name; cargo tree -d says who wants them"
done
[ "$count" -gt 1 ] && grep -q "^$own v" <<<"$crates" || refuse "cargo tree listed nothing of $own"

[ "$refused" -eq 0 ] || exit 1
echo "licences: $count crates, all allowed"
