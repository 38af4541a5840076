#!/bin/sh
# `tars restore` under the name that runbooks already use, with its flags (--backup-file FILE, --component NAMES,
# --skip-validation, --restore-config, --dry-run, --force) and its exit codes:
# 0 success, 1 error, 2 partial, 10 no repository, 11 locked, 12 wrong password, 130 interrupted.
set -eu
verb=restore
. "$(dirname "$0")/run-tars.sh"
