import { crc32 } from 'node:zlib';
import { CorruptionError } from '../model/errors.ts';
import type { ArtifactAttributes } from '../ports/artifacts.ts';

/**
 * The tar headers of our archives: POSIX.1-2017 `pax` interchange format, section "pax Interchange Format" and
 * "ustar Interchange Format", read by every tar of the last twenty years. Strict when reading: each byte is
 * either data under a checksum or must have the one value we write, so that no flipped bit goes unnoticed.
 */
export interface TarHeader {
  /** As stored: a directory's ends in `/`. */
  readonly name: string;
  readonly type: 'file' | 'directory' | 'symlink';
  readonly sizeBytes: number;
  readonly attributes: ArtifactAttributes;
  readonly linkTarget?: string;
  /** SHA-256 of the body, lower-case hex; kept for the manifest, which nothing else vouches for. */
  readonly sha256?: string;
}

/** Headers and bodies of a tar are padded to this (pax, POSIX.1-2001). */
export const blockBytes = 512;
/** Two zero blocks end an archive. */
export const endOfArchiveBytes = 2 * blockBytes;

const typeFlags = { file: '0', symlink: '2', directory: '5' } as const;
const refusedTypes: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a named pipe',
};
const fields = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  prefix: [345, 155],
} as const;
type Field = keyof typeof fields;

const maxOctal = (digits: number): number => 8 ** digits - 1;
const utf8 = new TextEncoder();
const isAscii = (text: string): boolean => /^[\x01-\x7f]*$/.test(text);

/** Zero bytes that follow a body of `sizeBytes`. */
export function paddingBytes(sizeBytes: number): number {
  return (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
}

/** One entry's header blocks: a pax extended header where ustar's fields do not suffice, then the ustar header. */
export function encodeTarHeader(header: TarHeader): Uint8Array {
  const { attributes, sizeBytes, linkTarget = '' } = header;
  const place = ustarName(header.name);
  const seconds = attributes.mtimeNs / 1_000_000_000n;
  const wholeSecond = attributes.mtimeNs % 1_000_000_000n === 0n && seconds >= 0n;
  const records: [string, string][] = [];
  if (place === undefined) records.push(['path', header.name]);
  if (linkTarget.length > 100 || !isAscii(linkTarget)) records.push(['linkpath', linkTarget]);
  if (sizeBytes > maxOctal(11)) records.push(['size', String(sizeBytes)]);
  if (attributes.uid > maxOctal(7)) records.push(['uid', String(attributes.uid)]);
  if (attributes.gid > maxOctal(7)) records.push(['gid', String(attributes.gid)]);
  if (!wholeSecond || seconds > maxOctal(11)) records.push(['mtime', formatSeconds(attributes.mtimeNs)]);
  const plain = ustarBlock(place ?? { prefix: '', name: asciiTail(header.name) }, typeFlags[header.type], {
    ...attributes,
    sizeBytes,
    seconds: Number(seconds),
    linkName: linkTarget.length > 100 || !isAscii(linkTarget) ? '' : linkTarget,
  });
  if (records.length === 0 && header.sha256 === undefined) return plain;
  const pax = encodePax(records, header.sha256);
  const paxHeader = ustarBlock({ prefix: '', name: 'PaxHeaders/entry' }, 'x', {
    mode: 0o600,
    uid: 0,
    gid: 0,
    sizeBytes: pax.length,
    seconds: 0,
    linkName: '',
  });
  return Buffer.concat([paxHeader, pax, new Uint8Array(paddingBytes(pax.length)), plain]);
}

function ustarName(name: string): { prefix: string; name: string } | undefined {
  if (!isAscii(name)) return undefined;
  if (name.length <= 100) return { prefix: '', name };
  const slash = name.indexOf('/', Math.max(0, name.length - 101));
  if (slash <= 0 || slash > 155 || slash === name.length - 1) return undefined;
  return { prefix: name.slice(0, slash), name: name.slice(slash + 1) };
}

/** What a reader without pax would call the entry; any other takes the pax path. */
const asciiTail = (name: string): string => name.replaceAll(/[^\x20-\x7e]/g, '_').slice(-100);

function formatSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = (magnitude % 1_000_000_000n).toString().padStart(9, '0');
  return `${ns < 0n ? '-' : ''}${magnitude / 1_000_000_000n}.${fraction}`;
}

function ustarBlock(
  place: { prefix: string; name: string },
  type: string,
  rest: { mode: number; uid: number; gid: number; sizeBytes: number; seconds: number; linkName: string },
): Uint8Array {
  const block = Buffer.alloc(blockBytes);
  const text = (field: Field, value: string): void => void block.write(value, fields[field][0], 'latin1');
  const octal = (field: Field, value: number): void => {
    const digits = fields[field][1] - 1;
    const clamped = Math.min(Math.max(value, 0), maxOctal(digits));
    text(field, clamped.toString(8).padStart(digits, '0'));
  };
  text('name', place.name);
  octal('mode', rest.mode & 0o7777);
  octal('uid', rest.uid);
  octal('gid', rest.gid);
  octal('size', rest.sizeBytes);
  octal('mtime', rest.seconds);
  text('type', type);
  text('linkName', rest.linkName);
  text('magic', 'ustar\u000000');
  text('prefix', place.prefix);
  text('checksum', checksumField(block));
  return block;
}

/** Six octal digits, NUL, space: the sum of all bytes with the field itself taken as spaces. */
function checksumField(block: Uint8Array): string {
  const [start, length] = fields.checksum;
  let sum = 0;
  for (const [i, byte] of block.entries()) sum += i >= start && i < start + length ? 0x20 : byte;
  return `${sum.toString(8).padStart(6, '0')}\u0000 `;
}

/**
 * The records, closed by a `comment` (which every tar ignores) with a CRC-32 of all bytes before its digits: a
 * tar has a checksum for its plain headers only, and an uncompressed archive nothing else.
 */
function encodePax(records: readonly [string, string][], sha256: string | undefined): Uint8Array {
  const note = `tars${sha256 === undefined ? '' : ` sha256=${sha256}`} crc32=00000000`;
  const bytes = utf8.encode([...records, ['comment', note] as const].map(paxRecord).join(''));
  bytes.set(utf8.encode(crcText(bytes.subarray(0, -9))), bytes.length - 9);
  return bytes;
}

const crcText = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, '0');

/** `<length> <key>=<value>\n`, the length counting itself. */
function paxRecord([key, value]: readonly [string, string]): string {
  const restBytes = utf8.encode(` ${key}=${value}\n`).length;
  let lengthBytes = restBytes + 1;
  while (String(lengthBytes).length + restBytes !== lengthBytes) lengthBytes++;
  return `${lengthBytes} ${key}=${value}\n`;
}

function recordText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CorruptionError('A pax header of the archive is not UTF-8', { cause });
  }
}

/** Records of a pax extended header. @throws CorruptionError unless they are exactly as we write them */
export function decodePax(bytes: Uint8Array): ReadonlyMap<string, string> {
  const damaged = (): CorruptionError => new CorruptionError('A pax header of the archive is damaged');
  if (bytes.length < 10 || !Buffer.from(crcText(bytes.subarray(0, -9))).equals(bytes.subarray(-9, -1))) {
    throw damaged();
  }
  const records = new Map<string, string>();
  let rest = bytes;
  while (rest.length > 0) {
    const lengthBytes = Number.parseInt(Buffer.from(rest.subarray(0, 8)).toString('latin1'), 10);
    if (!(lengthBytes > 0) || lengthBytes > rest.length) throw damaged();
    const match = /^\d+ ([^=]+)=([^]*)\n$/.exec(recordText(rest.subarray(0, lengthBytes)));
    if (match?.[1] === undefined || match[2] === undefined || records.has(match[1])) throw damaged();
    records.set(match[1], match[2]);
    rest = rest.subarray(lengthBytes);
  }
  return records;
}

/** What the first header block of an entry says: the entry's own header, or a pax header of so many bytes. */
export type DecodedBlock =
  | { readonly kind: 'pax'; readonly sizeBytes: number }
  | { readonly kind: 'entry'; readonly header: TarHeader };

/**
 * Decodes one header block. `pax` holds the records of the pax header before it, empty when there was none.
 * @throws CorruptionError when a bit of it is wrong, or it is an entry we never write (links, devices)
 */
export function decodeTarBlock(block: Buffer, pax: ReadonlyMap<string, string>): DecodedBlock {
  const raw = (field: Field): Buffer => block.subarray(fields[field][0], fields[field][0] + fields[field][1]);
  const text = (field: Field): string => raw(field).toString('latin1').replace(/\0*$/, '');
  if (raw('checksum').toString('latin1') !== checksumField(block)) {
    throw new CorruptionError('A tar header of the archive is damaged: its checksum is wrong');
  }
  if (raw('magic').toString('latin1') !== 'ustar\u000000') {
    throw new CorruptionError('The archive holds a tar header in a format tars never writes', {
      hint: 'Use the archive as tars wrote it, not one packed again by another program.',
    });
  }
  const number = (field: Field, key: string): number => {
    const value = pax.has(key) ? Number(pax.get(key)) : Number.parseInt(text(field), 8);
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new CorruptionError(`A tar header of the archive has an impossible ${key}`);
    }
    return value;
  };
  if (text('type') === 'x') return { kind: 'pax', sizeBytes: number('size', 'size') };
  const plainName = text('prefix') === '' ? text('name') : `${text('prefix')}/${text('name')}`;
  const name = pax.get('path') ?? plainName;
  const type = entryType(text('type'), name);
  const linkTarget = pax.get('linkpath') ?? text('linkName');
  const sha256 = /^tars sha256=([0-9a-f]{64}) /.exec(pax.get('comment') ?? '')?.[1];
  return {
    kind: 'entry',
    header: {
      name,
      type,
      sizeBytes: type === 'file' ? number('size', 'size') : 0,
      attributes: {
        mode: Number.parseInt(text('mode'), 8) & 0o7777,
        uid: number('uid', 'uid'),
        gid: number('gid', 'gid'),
        mtimeNs: parseSeconds(pax.get('mtime') ?? String(Number.parseInt(text('mtime'), 8))),
      },
      ...(type === 'symlink' ? { linkTarget } : {}),
      ...(sha256 === undefined ? {} : { sha256 }),
    },
  };
}

function entryType(flag: string, name: string): TarHeader['type'] {
  for (const [type, known] of Object.entries(typeFlags)) {
    if (flag === known) return type as TarHeader['type'];
  }
  const what = refusedTypes[flag] ?? `an entry of unknown type ${JSON.stringify(flag)}`;
  throw new CorruptionError(`The archive holds ${what}, which tars never writes: ${name}`, {
    hint: 'Do not restore from it unless you know who made it.',
  });
}

function parseSeconds(value: string): bigint {
  const match = /^(-?)(\d{1,15})(?:\.(\d{1,9}))?$/.exec(value);
  if (match === null)
    throw new CorruptionError(`A tar header of the archive has an impossible time ${value}`);
  const ns = BigInt(match[2] ?? '0') * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'));
  return match[1] === '-' ? -ns : ns;
}
