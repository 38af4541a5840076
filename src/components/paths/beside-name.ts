import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { encodeLossless } from '../../model/byte-text.ts';

/** What Linux allows a name, less `.tars-prev-` and the eight characters of a restore's id. */
const stemBytesMax = 255 - 19;

/**
 * What the names of that which a restore puts beside `name` begin with: the name itself, or as much of it as leaves room
 * and eight digits of its SHA-256.
 */
export function besideStem(name: string): string {
  if (encodeLossless(name).length <= stemBytesMax) return name;
  const digits = `~${createHash('sha256').update(encodeLossless(name)).digest('hex').slice(0, 8)}`;
  let stem = '';
  let room = stemBytesMax - digits.length;
  // Whole characters: some file systems take no others.
  for (const character of name) {
    room -= encodeLossless(character).length;
    if (room < 0) break;
    stem += character;
  }
  return stem + digits;
}

/** Where a restore stages the replacement of `path` (`new`), or sets aside what it replaces (`prev`). */
export const besidePath = (path: string, what: 'new' | 'prev', restoreId: string): string =>
  join(dirname(path), `${besideStem(basename(path))}.tars-${what}-${restoreId}`);
