#!/bin/sh
# Unpacks the newest version of packages of a Debian distribution into a directory, without installing them:
#   fetch-package.sh trixie docker-compose /absolute/directory
#   fetch-package.sh trixie 'postgresql-17 libpq5' /absolute/directory
# Only the address of the mirror is taken from this machine's apt; its sources and packages stay as they are. Fails with
# what is in the way on stderr.
set -eu
suite=$1 packages=$2 target=$3
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || {
  echo 'apt is not here' >&2
  exit 1
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | head -n 1) || true
[ -n "$mirror" ] || {
  echo 'The apt sources of this machine name no Debian mirror' >&2
  exit 1
}
parent=$(dirname "$target")
mkdir -p "$parent"
work=$(mktemp -d "$parent/fetching.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
echo "deb $mirror $suite main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
Acquire::Languages "none";
APT::Sandbox::User "$(id -un)";
CONF
cd "$work"
export APT_CONFIG="$work/apt.conf"
# shellcheck disable=SC2086 # Names of packages, one by one.
{ apt-get update -qq && apt-get download -qq $packages; } >&2 || exit 1
for archive in *.deb; do dpkg-deb -x "$archive" root >&2; done
rm -rf "$target"
mv root "$target"
