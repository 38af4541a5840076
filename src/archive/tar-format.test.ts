import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError } from '../model/errors.ts';
import {
  decodePax,
  decodeTarBlock,
  encodeTarHeader,
  paddingBytes,
  PaxRecords,
  type TarHeader,
} from './tar-format.ts';

const attributes = { mode: 0o640, uid: 1000, gid: 1000, mtimeNs: 1_700_000_000_000_000_000n };
const plain: TarHeader = { name: 'root/file', type: 'file', sizeBytes: 5, attributes };

function decode(bytes: Uint8Array): TarHeader {
  const blocks = Buffer.from(bytes);
  const first = decodeTarBlock(blocks.subarray(0, 512), new PaxRecords());
  if (first.kind === 'entry') return first.header;
  const pax = decodePax(blocks.subarray(512, 512 + first.sizeBytes));
  const at = 512 + first.sizeBytes + paddingBytes(first.sizeBytes);
  const second = decodeTarBlock(blocks.subarray(at, at + 512), pax);
  assert.equal(second.kind, 'entry');
  assert.equal(blocks.length, at + 512);
  return second.header;
}

const ustarLimits: Readonly<Record<string, TarHeader>> = {
  plain,
  'the longest plain name': { ...plain, name: `r/${'n'.repeat(98)}` },
  'the longest split name': { ...plain, name: `${'p'.repeat(155)}/${'n'.repeat(100)}` },
  'the largest plain size': { ...plain, sizeBytes: 8 ** 11 - 1 },
  'the largest plain owner': { ...plain, attributes: { ...attributes, uid: 8 ** 7 - 1 } },
  'a link': { ...plain, type: 'symlink', sizeBytes: 0, linkTarget: 't'.repeat(100) },
  'a directory': { ...plain, name: 'root/dir/', type: 'directory', sizeBytes: 0 },
};
const beyondUstar: Readonly<Record<string, TarHeader>> = {
  'a name one byte too long': { ...plain, name: 'n'.repeat(101) },
  'a name that cannot be split': { ...plain, name: `${'p'.repeat(156)}/n${'x'.repeat(50)}` },
  'a name that is not ASCII': { ...plain, name: 'root/ünï/=\n' },
  'more than 8 GiB': { ...plain, sizeBytes: 8 ** 11 },
  'a large owner': { ...plain, attributes: { ...attributes, gid: 8 ** 7 } },
  nanoseconds: { ...plain, attributes: { ...attributes, mtimeNs: 1_700_000_000_000_000_001n } },
  'before 1970': { ...plain, attributes: { ...attributes, mtimeNs: -1n } },
  'a long link': { ...plain, type: 'symlink', sizeBytes: 0, linkTarget: 't'.repeat(101) },
  'a checksum': { ...plain, sha256: 'ab'.repeat(32) },
};

for (const [what, header] of Object.entries({ ...ustarLimits, ...beyondUstar })) {
  test(`a header with ${what} is read as it was written`, () => {
    const bytes = encodeTarHeader(header);
    assert.deepEqual(decode(bytes), header);
    assert.equal(bytes.length === 512, what in ustarLimits);
  });

  test(`no bit of a header with ${what} flips unnoticed`, () => {
    const bytes = encodeTarHeader(header);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      // Padding belongs to the reader of the stream; here only the headers and records count.
      if (isPadding(bytes, bit >> 3)) continue;
      assert.throws(() => decode(damaged), CorruptionError, `bit ${bit}`);
    }
  });
}

function isPadding(bytes: Uint8Array, at: number): boolean {
  const first = decodeTarBlock(Buffer.from(bytes.subarray(0, 512)), new PaxRecords());
  return first.kind === 'pax' && at >= 512 + first.sizeBytes && at < bytes.length - 512;
}
