#!/bin/sh
# Puts a newer PostgreSQL beside the system's own, for the tests: `newest-postgres.sh 17` takes Debian's stable, `18` its
# unstable distribution. The programs load the libraries of that distribution, which lie beside them; nothing is installed.
# They are in usr/lib/postgresql/MAJOR/bin of the cache directory that test/fixtures/postgres.ts knows.
set -eu
cd "$(dirname "$0")/.."
major=$1
case "$major" in
  17) suite=trixie distribution="libxml2 libicu76" ;;
  18) suite=unstable distribution="libxml2-16 libicu78" ;;
  *) echo "[ERROR] No distribution is known for PostgreSQL $major" >&2 && exit 1 ;;
esac
# The user postgres must reach it, and does not reach the home of root.
if [ "$(id -u)" -eq 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
target="$cache/tars-demo/postgres-$major"
bin="usr/lib/postgresql/$major/bin"
[ -e "$target/ready" ] && exit 0
echo "[INFO] Fetching PostgreSQL $major" >&2
libraries="libc6 libgcc-s1 libstdc++6 libpq5 libssl3t64 $distribution libxslt1.1 liblz4-1 libzstd1 zlib1g liblzma5
libpam0g libaudit1 libcap-ng0 libselinux1 libpcre2-8-0 libsystemd0 libcap2 libuuid1 libreadline8t64 libtinfo6
libgssapi-krb5-2 libkrb5-3 libkrb5support0 libk5crypto3 libcom-err2 libkeyutils1 libldap2 libsasl2-2 libgcrypt20
libgpg-error0 libnuma1 liburing2 libcurl4t64"
# An rpath, unlike a runpath, serves the libraries of libraries and of extensions too.
use_own_libraries() {
  paths=$(find "$target" -type d -path '*x86_64-linux-gnu' | tr '\n' ':')
  loader=$(find "$target" -name 'ld-linux-x86-64.so.2' -type f | head -n 1)
  for program in "$target/$bin"/*; do
    # Some are scripts.
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "${paths%:}" "$program" 2>/dev/null || true
  done
}
if sh scripts/fetch-package.sh "$suite" "postgresql-$major postgresql-client-$major $libraries" "$target" &&
  use_own_libraries && "$target/$bin/postgres" --version >&2; then
  touch "$target/ready"
  exit 0
fi
rm -rf "$target"
if [ "${CI:-}" = true ]; then
  echo "[ERROR] PostgreSQL $major cannot be had: the tests need it here" >&2
  exit 1
fi
echo "[WARN] PostgreSQL $major cannot be had: the tests run with the system's version only" >&2
