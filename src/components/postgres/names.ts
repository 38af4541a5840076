import { createHash } from 'node:crypto';
import pg from 'pg';
import { TarsError } from '../../model/errors.ts';

/** NAMEDATALEN - 1: PostgreSQL silently cuts longer identifiers, and two databases could become one. */
const nameLimitBytes = 63;

/** Databases a restore has staged or moved aside; reads the same in JavaScript and in PostgreSQL. */
export const asidePattern = '_tars_(new|prev)_[a-z0-9]+$';
const asideName = new RegExp(asidePattern);

/** `"name"`, quotes doubled. */
export const identifier = (name: string): string => pg.escapeIdentifier(name);

/** `'text'`, safe whatever standard_conforming_strings says. */
export const literal = (text: string): string => pg.escapeLiteral(text);

/** `"schema"."name"`. */
export const qualified = (schema: string, name: string): string =>
  `${identifier(schema)}.${identifier(name)}`;

/** The names a restore gives to what it stages and to what it moves aside. */
export function asideNames(database: string, restoreId: string): { staged: string; previous: string } {
  return {
    staged: withSuffix(database, `_tars_new_${restoreId}`),
    previous: withSuffix(database, `_tars_prev_${restoreId}`),
  };
}

/** True for databases a restore has staged or moved aside: they are no part of the stack. */
export function isAside(database: string): boolean {
  return asideName.test(database);
}

/** Names that do not fit are cut, and told apart by a part of their hash. */
function withSuffix(database: string, suffix: string): string {
  const whole = database + suffix;
  if (Buffer.byteLength(whole) <= nameLimitBytes) return whole;
  const digest = `_${createHash('sha256').update(database).digest('hex').slice(0, 8)}`;
  const room = nameLimitBytes - Buffer.byteLength(suffix) - digest.length;
  if (room < 1) {
    throw new TarsError('internal', `The restore id in ${suffix} is too long for a database name`);
  }
  return cutToBytes(database, room) + digest + suffix;
}

function cutToBytes(text: string, limitBytes: number): string {
  let cut = '';
  let sizeBytes = 0;
  for (const character of text) {
    sizeBytes += Buffer.byteLength(character);
    if (sizeBytes > limitBytes) break;
    cut += character;
  }
  return cut;
}

/** A database's artifact: everything that could mean something in a path is percent-encoded. */
export function dumpPath(component: string, database: string): string {
  const name = database.replace(/[%/\\\p{Cc}]|^\./gu, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
  return `${component}/${name}.dump`;
}

/** The roles and tablespaces of the whole server, as `pg_dumpall --globals-only` writes them. */
export function globalsPath(component: string): string {
  return `${component}/globals.sql`;
}

/** A value in a libpq connection string (PostgreSQL manual 34.1.1.1). */
export function conninfoValue(text: string): string {
  return `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
}
