#!/bin/sh
# `tars backup` under the name that cron lines already use, with its flags (--output-dir DIR, --include-models,
# --skip-postgres, --skip-chromadb, --skip-redis, --keep-last N and its kin, --dry-run) and its exit codes:
# 0 success, 1 error, 2 partial, 10 no repository, 11 locked, 12 wrong password, 130 interrupted.
set -eu
verb=backup
. "$(dirname "$0")/run-tars.sh"
