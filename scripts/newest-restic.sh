#!/bin/sh
# Puts the newest restic of Debian (its unstable distribution) beside the system's own, for the tests with stock restic.
set -eu
cd "$(dirname "$0")/.."
target="${XDG_CACHE_HOME:-$HOME/.cache}/tars-demo/restic-newest"
[ -x "$target/usr/bin/restic" ] && exit 0
echo '[INFO] Fetching the newest restic' >&2
if sh scripts/fetch-package.sh unstable restic "$target" && "$target/usr/bin/restic" version >&2; then exit 0; fi
rm -rf "$target"
if [ "${CI:-}" = true ]; then
  echo '[ERROR] The newest restic cannot be had: the tests need it here' >&2
  exit 1
fi
echo "[WARN] The newest restic cannot be had: the tests with stock restic run with the system's version only" >&2
