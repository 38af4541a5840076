import { crc32 } from 'node:zlib';
import { decodeLossless, encodeLossless } from '../model/byte-text.ts';
import { CorruptionError, TarsError } from '../model/errors.ts';
import type { ArtifactAttributes, ExtendedAttribute, SpecialFile } from '../ports/artifacts.ts';

/**
 * The tar headers of our archives: POSIX.1-2017 `pax` interchange format, section "pax Interchange Format" and
 * "ustar Interchange Format", read by every tar of the last twenty years. Strict when reading: each byte is
 * either data under a checksum or must have the one value we write, so that no flipped bit goes unnoticed.
 */
export interface TarHeader {
  /** As stored: a directory's ends in `/`. */
  readonly name: string;
  readonly type: 'file' | 'link' | 'directory' | 'symlink' | Exclude<SpecialFile['type'], 'socket'>;
  readonly sizeBytes: number;
  readonly attributes: ArtifactAttributes;
  /** Of a `symlink`; of a `link` (a further name of a file) the name of an entry before it. */
  readonly linkTarget?: string;
  /** `st_rdev` of a device. */
  readonly device?: bigint;
  /** SHA-256 of the body, lower-case hex; kept for the manifest, which nothing else vouches for. */
  readonly sha256?: string;
}

/** Headers and bodies of a tar are padded to this (pax, POSIX.1-2001). */
export const blockBytes = 512;
/** Two zero blocks end an archive. */
export const endOfArchiveBytes = 2 * blockBytes;

/** Linux takes an attribute of 64 KiB; whatever has more than some hundreds of those is no file that anybody uses. */
export const paxMaxBytes = 16 << 20;

const typeFlags: Readonly<Record<TarHeader['type'], string>> = {
  file: '0',
  link: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
};
const typesByFlag = new Map(
  Object.entries(typeFlags).map(([type, flag]) => [flag, type as TarHeader['type']]),
);
/** How star, GNU tar and libarchive call an extended attribute. */
const extendedPrefix = 'SCHILY.xattr.';
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
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const;
type Field = keyof typeof fields;

const maxOctal = (digits: number): number => 8 ** digits - 1;
const isAscii = (text: string): boolean => /^[\x01-\x7f]*$/.test(text);

/** Zero bytes that follow a body of `sizeBytes`. */
export function paddingBytes(sizeBytes: number): number {
  return (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
}

type PaxRecord = readonly [key: string, value: string | Uint8Array];

/** One entry's header blocks: a pax extended header where ustar's fields do not suffice, then the ustar header. */
export function encodeTarHeader(header: TarHeader): Uint8Array {
  const { attributes, sizeBytes, linkTarget = '', device } = header;
  const place = ustarName(header.name);
  const linkName = linkTarget.length > 100 || !isAscii(linkTarget) ? undefined : linkTarget;
  const seconds = floorSeconds(attributes.mtimeNs);
  const records = [...paxRecords(header, place === undefined, linkName === undefined)];
  const plain = ustarBlock(place ?? { prefix: '', name: asciiTail(header.name) }, typeFlags[header.type], {
    ...attributes,
    sizeBytes,
    seconds: Number(seconds),
    linkName: linkName ?? '',
    ...(device === undefined ? {} : { device }),
  });
  if (records.length === 0 && header.sha256 === undefined) return plain;
  const pax = encodePax(records, header.sha256);
  if (pax.length > paxMaxBytes) {
    throw new TarsError(
      'capture-failed',
      `The extended attributes of ${header.name} have more than ${paxMaxBytes} bytes`,
      { hint: 'Back up into a repository, or exclude this file. An archive cannot hold these attributes.' },
    );
  }
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

function* paxRecords(
  { name, linkTarget = '', attributes, sizeBytes }: TarHeader,
  needsPath: boolean,
  needsLink: boolean,
): Generator<PaxRecord> {
  const { uid, gid, mtimeNs, extended = [] } = attributes;
  // It says so of all records that follow.
  if (!name.isWellFormed() || !linkTarget.isWellFormed()) yield ['hdrcharset', 'BINARY'];
  if (needsPath) yield ['path', name];
  if (needsLink) yield ['linkpath', linkTarget];
  if (sizeBytes > maxOctal(11)) yield ['size', String(sizeBytes)];
  if (uid > maxOctal(7)) yield ['uid', String(uid)];
  if (gid > maxOctal(7)) yield ['gid', String(gid)];
  const seconds = floorSeconds(mtimeNs);
  const isPlainTime = seconds * nsPerSecond === mtimeNs && seconds >= 0n && seconds <= maxOctal(11);
  if (!isPlainTime) yield ['mtime', formatSeconds(mtimeNs)];
  for (const attribute of extended) yield [`${extendedPrefix}${escapeKey(attribute.name)}`, attribute.value];
}

const nsPerSecond = 1_000_000_000n;

function floorSeconds(ns: bigint): bigint {
  return (ns - (((ns % nsPerSecond) + nsPerSecond) % nsPerSecond)) / nsPerSecond;
}

/** As GNU tar does: a key ends at its first `=`. */
const escapeKey = (name: string): string => name.replaceAll('%', '%25').replaceAll('=', '%3D');
const unescapeKey = (key: string): string => key.replaceAll('%3D', '=').replaceAll('%25', '%');

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
  rest: {
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
    readonly sizeBytes: number;
    readonly seconds: number;
    readonly linkName: string;
    readonly device?: bigint;
  },
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
  if (rest.device !== undefined) {
    const { major, minor } = splitDevice(rest.device);
    octal('major', major);
    octal('minor', minor);
  }
  text('prefix', place.prefix);
  text('checksum', checksumField(block));
  return block;
}

/** Linux: 12 bits of the major number, 20 of the minor one, as `gnu_dev_major` and `gnu_dev_minor` have them. */
function splitDevice(device: bigint): { readonly major: number; readonly minor: number } {
  const word = Number(BigInt.asUintN(32, device));
  return { major: (word >>> 8) & 0xfff, minor: ((word & 0xff) | ((word >>> 12) & 0xfff00)) >>> 0 };
}

function joinDevice(major: number, minor: number): bigint {
  const word = (minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12);
  return BigInt(word >>> 0);
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
function encodePax(records: readonly PaxRecord[], sha256: string | undefined): Uint8Array {
  const note = `tars${sha256 === undefined ? '' : ` sha256=${sha256}`} crc32=00000000`;
  const bytes = Buffer.concat([...records, ['comment', note] as const].map(paxRecord));
  bytes.write(crcText(bytes.subarray(0, -9)), bytes.length - 9);
  return bytes;
}

const crcText = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, '0');

/** `<length> <key>=<value>\n`, the length counting itself. */
function paxRecord([key, value]: PaxRecord): Buffer {
  const bytes = typeof value === 'string' ? encodeLossless(value) : value;
  const rest = Buffer.concat([
    Buffer.from(' '),
    encodeLossless(key),
    Buffer.from('='),
    bytes,
    Buffer.from('\n'),
  ]);
  let lengthBytes = rest.length + 1;
  while (String(lengthBytes).length + rest.length !== lengthBytes) lengthBytes++;
  return Buffer.concat([Buffer.from(String(lengthBytes)), rest]);
}

/** The records of a pax extended header, or none. */
export class PaxRecords {
  readonly #records: ReadonlyMap<string, Buffer>;

  constructor(records: ReadonlyMap<string, Buffer> = new Map()) {
    this.#records = records;
  }

  /** @throws CorruptionError when it is not UTF-8, as it must be where `hdrcharset` does not say otherwise */
  text(key: string): string | undefined {
    const bytes = this.#records.get(key);
    const text = bytes && decodeLossless(bytes);
    if (text === undefined || text.isWellFormed() || this.#records.get('hdrcharset')?.toString() === 'BINARY')
      return text;
    throw new CorruptionError('A pax header of the archive is not UTF-8');
  }

  get extended(): readonly ExtendedAttribute[] {
    return [...this.#records].flatMap(([key, value]) =>
      key.startsWith(extendedPrefix) ? [{ name: unescapeKey(key.slice(extendedPrefix.length)), value }] : [],
    );
  }
}

/** Records of a pax extended header. @throws CorruptionError unless they are exactly as we write them */
export function decodePax(bytes: Uint8Array): PaxRecords {
  const damaged = (): CorruptionError => new CorruptionError('A pax header of the archive is damaged');
  if (bytes.length < 10 || !Buffer.from(crcText(bytes.subarray(0, -9))).equals(bytes.subarray(-9, -1))) {
    throw damaged();
  }
  const records = new Map<string, Buffer>();
  let rest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  while (rest.length > 0) {
    const digits = /^(\d{1,9}) /.exec(rest.toString('latin1', 0, 10))?.[1];
    const record = rest.subarray(0, Number(digits ?? 0));
    const equals = record.indexOf('=');
    if (digits === undefined || String(record.length) !== digits || equals <= digits.length + 1)
      throw damaged();
    const key = decodeLossless(record.subarray(digits.length + 1, equals));
    if (record.at(-1) !== 0x0a || records.has(key)) throw damaged();
    records.set(key, record.subarray(equals + 1, -1));
    rest = rest.subarray(record.length);
  }
  return new PaxRecords(records);
}

/** What the first header block of an entry says: the entry's own header, or a pax header of so many bytes. */
type DecodedBlock =
  | { readonly kind: 'pax'; readonly sizeBytes: number }
  | { readonly kind: 'entry'; readonly header: TarHeader };

/**
 * Decodes one header block. `pax` holds the records of the pax header before it.
 * @throws CorruptionError when a bit of it is wrong, or it is an entry we never write
 */
export function decodeTarBlock(block: Buffer, pax: PaxRecords): DecodedBlock {
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
    const value = Number(pax.text(key) ?? Number.parseInt(text(field), 8));
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new CorruptionError(`A tar header of the archive has an impossible ${key}`);
    }
    return value;
  };
  if (text('type') === 'x') return { kind: 'pax', sizeBytes: number('size', 'size') };
  const plainName = text('prefix') === '' ? text('name') : `${text('prefix')}/${text('name')}`;
  const name = pax.text('path') ?? plainName;
  const type = entryType(text('type'), name);
  const linkTarget = pax.text('linkpath') ?? text('linkName');
  const sha256 = /^tars sha256=([0-9a-f]{64}) /.exec(pax.text('comment') ?? '')?.[1];
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
        mtimeNs: parseSeconds(pax.text('mtime') ?? String(Number.parseInt(text('mtime'), 8))),
        ...(pax.extended.length === 0 ? {} : { extended: pax.extended }),
      },
      ...(type === 'symlink' || type === 'link' ? { linkTarget } : {}),
      ...(type === 'character-device' || type === 'block-device'
        ? { device: joinDevice(number('major', 'major'), number('minor', 'minor')) }
        : {}),
      ...(sha256 === undefined ? {} : { sha256 }),
    },
  };
}

function entryType(flag: string, name: string): TarHeader['type'] {
  const type = typesByFlag.get(flag);
  if (type !== undefined) return type;
  throw new CorruptionError(
    `The archive holds an entry of unknown type ${JSON.stringify(flag)}, which tars never writes: ${name}`,
    { hint: 'Do not restore from it unless you know who made it.' },
  );
}

function parseSeconds(value: string): bigint {
  const match = /^(-?)(\d{1,15})(?:\.(\d{1,9}))?$/.exec(value);
  if (match === null)
    throw new CorruptionError(`A tar header of the archive has an impossible time ${value}`);
  const ns = BigInt(match[2] ?? '0') * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'));
  return match[1] === '-' ? -ns : ns;
}
