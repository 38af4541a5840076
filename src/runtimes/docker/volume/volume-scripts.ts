import type { VolumeExchange } from '../../../ports/volume.ts';

/**
 * Scripts for a helper container in whose working directory a store's directory lies. POSIX shell with `find`, `stat`,
 * `mv` and `rm`, which images of GNU and BusyBox both have.
 */

/**
 * Runs another script in the store's directory; arguments: the mount, the directory, the script's own. A directory
 * that is missing is created for writing, owned like the mount, and there is nothing to do in it for reading.
 */
export const enterScript = `set -eu
if [ ! -d "$2" ]; then
  [ "$TARS_ACCESS" = write ] || exit 0
  mkdir -p "$2"
  chown "$(stat -c %u:%g "$1")" "$2"
fi
cd "$2"
shift 2
eval "$TARS_SCRIPT"`;

/** The directory and everything below it, an entry a line, its name last; then the time. What vanishes is left out. */
export const listScript = `set -eu
find . -exec stat -c '%f %u %g %s %i %y %z %n' '{}' + 2>/dev/null || true
date '+now %s'`;

/** A word first, then the hash of every file at and below a path; nothing at all where the image cannot hash. */
export const hashScript = `command -v sha256sum >/dev/null 2>&1 || exit 0
echo hashes
find "./$1" -type f -exec sha256sum '{}' '+'`;

/**
 * Arguments: the restore; `all` for everything that no restore made, or `paths` and then those paths, of which there
 * may be none. Anything else ends the script before it touches a file.
 */
const common = `set -eu
if [ -z "$1" ]; then echo 'No restore is named' >&2; exit 2; fi
new=.tars-new-$1
prev=.tars-prev-$1
part=$2
shift 2
case $part:$# in all:0|paths:*) ;; *) echo "What is exchanged is not clear: $part" >&2; exit 2;; esac
there() { [ -e "$1" ] || [ -L "$1" ]; }
flush() { sync -f . 2>/dev/null || sync; }
owner=$(stat -c %u:%g .)
parent() {
  case $1 in */*) ;; *) return 0;; esac
  if there "\${1%/*}"; then return 0; fi
  parent "\${1%/*}"
  mkdir "\${1%/*}"
  chown "$owner" "\${1%/*}"
}
`;

/**
 * First all that is live moves aside; a mark says when that is done, so that afterwards whatever is live is new. Then
 * what is staged moves in.
 */
export const swapScript = `${common}
if ! there "$new" && ! there "$prev/.moved"; then echo "$new is not there" >&2; exit 1; fi
mkdir -p "$prev"
if ! there "$prev/.moved"; then
  if [ "$part" = all ]; then
    for name in * .[!.]* ..?*; do
      there "$name" || continue
      case $name in .tars-*|lost+found) continue;; esac
      if there "$prev/$name"; then echo "$name is there twice" >&2; exit 1; fi
      mv "$name" "$prev/$name"
    done
  else
    for name; do
      if there "$prev/$name" || ! there "$name"; then continue; fi
      parent "$prev/$name"
      mv "$name" "$prev/$name"
    done
  fi
  flush
  : > "$prev/.moved"
  flush
fi
move() {
  there "$new/$1" || return 0
  if there "$1"; then echo "$1 has appeared since it was moved aside" >&2; exit 1; fi
  parent "$1"
  mv "$new/$1" "$1"
}
if [ "$part" = all ]; then
  for path in "$new"/* "$new"/.[!.]* "$new"/..?*; do
    there "$path" || continue
    move "\${path#"$new"/}"
  done
else
  for name; do move "$name"; done
fi
flush
rm -rf "$new"
`;

/** With the mark, what is live is what was swapped in, and goes. Then everything aside moves back. */
export const undoScript = `${common}
if there "$prev/.moved"; then
  if [ "$part" = all ]; then
    for name in * .[!.]* ..?*; do
      there "$name" || continue
      case $name in .tars-*|lost+found) continue;; esac
      rm -rf "$name"
    done
  else
    for name; do rm -rf "$name"; done
  fi
  flush
  rm "$prev/.moved"
  flush
fi
back() {
  there "$prev/$1" || return 0
  if there "$1"; then
    parent "$prev.stray/$1"
    mkdir -p "$prev.stray"
    mv "$1" "$prev.stray/$1"
    echo "$prev.stray/$1"
  fi
  parent "$1"
  mv "$prev/$1" "$1"
}
if [ "$part" = all ]; then
  for path in "$prev"/* "$prev"/.[!.]* "$prev"/..?*; do
    there "$path" || continue
    back "\${path#"$prev"/}"
  done
else
  for name; do back "$name"; done
fi
flush
rm -rf "$new" "$prev"
`;

/** Deletes the previous data of a swap that was finished. */
export const discardScript = `${common}
rm -rf "$prev"
`;

/** What {@link undoScript} does after a swap that was finished, in words short enough to be printed. */
export function wayBackScript({ restoreId, part }: VolumeExchange): string {
  const previous = `.tars-prev-${restoreId}`;
  return 'all' in part
    ? `for name in * .[!.]*; do case "$name" in .tars-*|lost+found) ;; *) rm -rf "$name";; esac; done; rm ${previous}/.moved; for name in ${previous}/* ${previous}/.[!.]*; do if [ -e "$name" ]; then mv "$name" .; fi; done; rmdir ${previous}`
    : `for name; do rm -rf "$name"; if [ -e "${previous}/$name" ]; then mv "${previous}/$name" "$name"; fi; done`;
}
