#!/bin/sh
# Puts the newest restic of Debian (its unstable distribution) beside the system's own, for the tests with stock restic.
# Only the address of the mirror is taken from this machine's apt; its sources and packages stay as they are.
set -eu
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tars-demo"
target="$cache/restic-newest"
[ -x "$target/usr/bin/restic" ] && exit 0

give_up() {
  if [ "${CI:-}" = true ]; then
    echo "[ERROR] $1: the tests need the newest restic here" >&2
    exit 1
  fi
  echo "[WARN] $1: the tests with stock restic run with the system's version only" >&2
  exit 0
}

command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || give_up 'apt is not here'
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | head -n 1) || true
[ -n "$mirror" ] || give_up 'The apt sources of this machine name no Debian mirror'
mkdir -p "$cache"
work=$(mktemp -d "$cache/restic-newest.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
echo "deb $mirror unstable main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
Acquire::Languages "none";
APT::Sandbox::User "$(id -un)";
CONF
echo '[INFO] Fetching the newest restic' >&2
(
  cd "$work"
  export APT_CONFIG="$work/apt.conf"
  apt-get update -qq && apt-get download -qq restic && dpkg-deb -x restic_*.deb root && root/usr/bin/restic version
) >&2 || give_up 'The newest restic cannot be had'
rm -rf "$target"
mv "$work/root" "$target"
