#!/bin/sh
# Installs what the project's own commands need: npm packages, (Debian/Ubuntu) PostgreSQL, Redis, restic, age, and for
# the tests the newest restic beside the system's.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-fund --no-audit >&2
fi
missing=''
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v restic >/dev/null 2>&1 || missing="$missing restic"
command -v age >/dev/null 2>&1 || missing="$missing age"
command -v zstd >/dev/null 2>&1 || missing="$missing zstd"
# Of the tests alone, and a daemon: not for a machine that people work on.
if [ "${CI:-}" = true ] || [ "$(id -u)" -eq 0 ]; then
  command -v crontab >/dev/null 2>&1 || missing="$missing cron"
  command -v faketime >/dev/null 2>&1 || missing="$missing faketime"
  command -v patchelf >/dev/null 2>&1 || missing="$missing patchelf"
  [ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
  command -v rsync >/dev/null 2>&1 || missing="$missing rsync"
  [ -x /usr/bin/time ] || missing="$missing time"
  command -v setfattr >/dev/null 2>&1 || missing="$missing attr"
  command -v setfacl >/dev/null 2>&1 || missing="$missing acl"
  command -v setcap >/dev/null 2>&1 || [ -x /sbin/setcap ] || missing="$missing libcap2-bin"
fi
# Where nothing is to be skipped.
if [ "${CI:-}" = true ]; then
  for shell in zsh fish; do command -v "$shell" >/dev/null 2>&1 || missing="$missing $shell"; done
fi
newest() { sh scripts/newest-restic.sh && exec sh scripts/newest-redis.sh; }
[ -z "$missing" ] && newest
if ! command -v apt-get >/dev/null 2>&1; then
  echo "[ERROR] Missing:$missing. Install them with your package manager, then run this again." >&2
  exit 1
fi
as_root=''
if [ "$(id -u)" -ne 0 ]; then as_root='sudo -n'; fi
echo "[INFO] Installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >&2; then
  echo "[ERROR] Could not install:$missing. Run as root: apt-get install$missing" >&2
  exit 1
fi
newest
