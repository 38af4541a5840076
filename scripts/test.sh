#!/bin/sh
# Runs the tests: all of them, or with "campaign" those that count (see test/fixtures/campaign.ts), in full and one
# after the other. Fails also when a test leaves a process or a directory behind. As npm calls it:
#   npm test -- FILE…            runs these files alone, with what was installed and built before
#   npm test -- --grep PATTERN   runs the tests whose names match
#   npm run campaign -- WORD…    runs the parts of the campaign whose names have one of the words
#   npm run campaign -- --list   prints the parts and what they take
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
case "$*" in campaign*--list*)
  shift
  exec node scripts/run-campaign.ts "$@"
  ;;
esac
has_files() {
  for argument in "$@"; do
    case $argument in *.test.ts) return 0 ;; esac
  done
  return 1
}
if ! has_files "$@"; then
  sh scripts/docker-setup.sh
  for major in 17 18; do sh scripts/newest-postgres.sh $major; done
fi

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/tars-tests.XXXXXX")
export TMPDIR
# PostgreSQL runs as another user when we are root.
chmod 755 "$TMPDIR"
# The tests start tars some hundred times: most of that would be compiling the same files.
export NODE_COMPILE_CACHE="$TMPDIR/compile-cache"
# What many tests need alike, such as an empty PostgreSQL cluster, is made once and copied.
export TARS_TEST_TEMPLATES="$TMPDIR/templates"
mkdir "$TARS_TEST_TEMPLATES"
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM

leftovers() {
  find "$TMPDIR" -mindepth 1 -maxdepth 1 -name 'tars-*'
  for process in /proc/[0-9]*; do
    command=$({ tr "\0" " " <"$process/cmdline"; } 2>/dev/null) || continue
    case $command in *"$TMPDIR"*) echo "process ${process#/proc/}: $command" ;; esac
  done
}

status=0
if [ "${1:-}" = campaign ]; then
  shift
  node scripts/run-campaign.ts "$@" || status=$?
else
  node scripts/run-tests.ts "$@" || status=$?
fi

left=$(leftovers)
if [ -n "$left" ]; then
  printf '[ERROR] The tests left behind:\n%s\n' "$left" >&2
  status=1
fi
exit "$status"
