# Read by the scripts beside it, not run. Finds tars: $TARS, then on PATH, then the package this directory is part of.
# A cron line has a short PATH, so node is looked for where it is usually installed, too.
PATH=$PATH:/usr/local/bin:/usr/bin:/bin
export PATH
if [ -n "${TARS:-}" ]; then exec "$TARS" "$verb" "$@"; fi
if command -v tars >/dev/null 2>&1; then exec tars "$verb" "$@"; fi
main=$(dirname "$0")/../dist/cli/main.js
if [ -f "$main" ] && command -v node >/dev/null 2>&1; then exec node "$main" "$verb" "$@"; fi
echo '[ERROR] Found no tars: install it, or name it in the variable TARS' >&2
exit 1
