#!/bin/sh
# Puts Redis 8 of Debian trixie, with the libraries it is built for, beside the system's own, for the tests of what older
# servers do not have.
set -eu
cd "$(dirname "$0")/.."
target="${XDG_CACHE_HOME:-$HOME/.cache}/tars-demo/redis-8"
[ -x "$target/redis-server" ] && "$target/redis-server" --version >/dev/null 2>&1 && exit 0
echo '[INFO] Fetching Redis 8' >&2
libraries='libc6 libssl3t64 libjemalloc2 liblzf1 libsystemd0 libstdc++6 libgcc-s1 liblua5.1-0 libatomic1 libcap2 zlib1g libzstd1'
start() {
  lib=$(dirname "$(find "$target/usr/lib" -name 'ld-linux*' -type f | head -n 1)")
  # Which of its programs it is, it knows by its name.
  cat >"$target/redis-server" <<RUN
#!/bin/sh
exec '$lib'/ld-linux* --library-path '$lib' --argv0 redis-server '$target/usr/bin/redis-check-rdb' "\$@"
RUN
  chmod 755 "$target/redis-server"
  "$target/redis-server" --version >&2
}
if sh scripts/fetch-package.sh trixie "redis-tools $libraries" "$target" && start; then exit 0; fi
rm -rf "$target"
if [ "${CI:-}" = true ]; then
  echo '[ERROR] Redis 8 cannot be had: the tests need it here' >&2
  exit 1
fi
echo '[WARN] Redis 8 cannot be had: the tests of its vector sets are skipped' >&2
