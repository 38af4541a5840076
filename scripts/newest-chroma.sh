#!/bin/sh
# Puts the C library of Debian trixie beside the system's own: the builds of Chroma 1.1 to 1.3 load with it.
set -eu
cd "$(dirname "$0")/.."
target="${XDG_CACHE_HOME:-$HOME/.cache}/tars-demo/glibc-trixie"
[ -e "$target/ready" ] && exit 0
echo '[INFO] Fetching the C library of trixie' >&2
if sh scripts/fetch-package.sh trixie 'libc6 libgcc-s1 libstdc++6' "$target"; then
  : >"$target/ready"
  exit 0
fi
rm -rf "$target"
if [ "${CI:-}" = true ]; then
  echo '[ERROR] The C library of trixie cannot be had: the tests need it here' >&2
  exit 1
fi
echo '[WARN] The C library of trixie cannot be had: the tests of Chroma 1.1 to 1.3 are skipped' >&2
