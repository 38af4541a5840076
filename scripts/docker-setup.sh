#!/bin/sh
# Makes the Docker tests possible: an Engine that answers, both versions of Compose, the test images.
#   docker-setup.sh        uses what is there; with CI=true or TARS_TEST_DOCKER=install it installs packages and starts
#                          an Engine where none answers (it is left running for later tests)
#   docker-setup.sh stop   stops the Engine that an earlier run started
# What the tests use is told by test/fixtures/docker/engine.ts.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH:/usr/sbin:/sbin"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tars-demo"
pid_file="$cache/dockerd.pid"
log="$cache/dockerd.log"
compose="$cache/compose-2/docker-compose"
as_root=''
if [ "$(id -u)" -ne 0 ]; then as_root='sudo -n'; fi
install=false
if [ "${CI:-}" = true ] || [ "${TARS_TEST_DOCKER:-}" = install ]; then install=true; fi

give_up() {
  if [ "$install" = true ]; then
    echo "[ERROR] $1: the Docker tests cannot run" >&2
    exit 1
  fi
  echo "[WARN] DOCKER TESTS WILL BE SKIPPED: $1. To enable them: TARS_TEST_DOCKER=install sh scripts/docker-setup.sh" >&2
  exit 0
}

# True when the process $1 is the program $2, and not one that got its number later.
is_program() {
  [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]
}

if [ "${1:-}" = stop ]; then
  pid=$(cat "$pid_file" 2>/dev/null || true)
  if is_program "$pid" dockerd; then
    $as_root kill "$pid"
    while is_program "$pid" dockerd; do sleep 0.1; done
  fi
  rm -f "$pid_file"
  exit 0
fi

engine_answers() {
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

install_packages() {
  wanted=''
  if ! engine_answers && ! command -v dockerd >/dev/null 2>&1; then wanted='docker.io iptables'; fi
  command -v docker >/dev/null 2>&1 || wanted="$wanted docker-cli"
  command -v debootstrap >/dev/null 2>&1 || wanted="$wanted debootstrap"
  command -v ip >/dev/null 2>&1 || wanted="$wanted iproute2"
  # Compose 1 where the distribution still has it; Compose 2 is fetched below.
  command -v docker-compose >/dev/null 2>&1 || wanted="$wanted docker-compose"
  [ -n "$wanted" ] || return 0
  command -v apt-get >/dev/null 2>&1 || give_up "Missing:$wanted"
  $as_root apt-get update -qq >&2 || give_up 'apt cannot read its sources'
  missing=''
  for package in $wanted; do
    # Older distributions have the docker command in docker.io.
    if apt-cache show "$package" >/dev/null 2>&1; then missing="$missing $package"; fi
  done
  echo "[INFO] Installing:$missing" >&2
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >&2 || give_up "Could not install:$missing"
}

# Starts dockerd with the storage driver $1; false when it ends instead of answering.
start_engine() {
  for name in docker containerd; do
    # A number from before an unclean end may be another program's by now, and dockerd would believe in it.
    file=/var/run/docker.pid program=dockerd
    if [ "$name" = containerd ]; then file=/var/run/docker/containerd/containerd.pid program=containerd; fi
    if [ -e "$file" ] && ! is_program "$(cat "$file")" "$program"; then $as_root rm -f "$file"; fi
  done
  $as_root sh -c 'setsid dockerd --storage-driver="$1" >>"$2" 2>&1 </dev/null & echo $! >"$3"' - "$1" "$log" "$pid_file"
  pid=$(cat "$pid_file")
  tries=0
  until engine_answers; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! [ -d "/proc/$pid" ]; then
      $as_root kill "$pid" 2>/dev/null || true
      rm -f "$pid_file"
      return 1
    fi
    sleep 0.2
  done
}

ensure_engine() {
  engine_answers && return
  if [ "$install" = false ]; then
    command -v docker >/dev/null 2>&1 || give_up 'Docker is not here'
    give_up 'No Docker Engine answers (or this user may not talk to it)'
  fi
  [ -z "${DOCKER_HOST:-}" ] || give_up "No Docker Engine answers at $DOCKER_HOST"
  if [ -d /run/systemd/system ] && $as_root systemctl start docker && engine_answers; then return; fi
  if ! grep -q ' cgroup' /proc/mounts && command -v cgroupfs-mount >/dev/null 2>&1; then $as_root cgroupfs-mount; fi
  echo '[INFO] Starting a Docker Engine' >&2
  start_engine overlay2 || start_engine vfs || give_up "dockerd does not start, see $log"
}

# Compose 2 of a later Debian, beside whatever the system has.
fetch_compose() {
  echo '[INFO] Fetching Docker Compose 2' >&2
  sh scripts/fetch-package.sh trixie docker-compose "$cache/compose-2-package" || return 1
  mkdir -p "$(dirname "$compose")"
  mv "$cache/compose-2-package/usr/libexec/docker/cli-plugins/docker-compose" "$compose"
  rm -rf "$cache/compose-2-package"
  "$compose" version --short >&2
}

ensure_compose() {
  docker compose version >/dev/null 2>&1 && return
  [ -x "$compose" ] && return
  case $(docker-compose version --short 2>/dev/null || true) in 1.* | '') ;; *) return ;; esac
  fetch_compose || give_up 'Docker Compose 2 is not here and cannot be had'
}

mkdir -p "$cache"
# One at a time: two would install, start and build the same things. The Engine must not inherit the lock.
if [ -z "${TARS_DOCKER_SETUP_LOCKED:-}" ] && command -v flock >/dev/null 2>&1; then
  TARS_DOCKER_SETUP_LOCKED=yes exec flock --close "$cache/docker-setup.lock" sh scripts/docker-setup.sh
fi
[ "$install" = false ] || install_packages
ensure_engine
ensure_compose
node test/fixtures/docker/images.ts >&2 || give_up 'The test images cannot be built'
