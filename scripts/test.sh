#!/bin/sh
# Runs the tests: everything, or with "campaign" the long counts (TARS_CAMPAIGN=full).
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"
sh scripts/docker-setup.sh
exec node --test --test-concurrency=2 'src/**/*.test.ts' 'test/**/*.test.ts'
