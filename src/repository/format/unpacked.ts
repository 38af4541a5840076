import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { CorruptionError, TarsError } from '../../model/errors.ts';

/**
 * The plaintext of index, snapshot and lock files: a byte that says how the JSON is stored, then the JSON (restic
 * `doc/design.rst`, "Unpacked Data Format"). `{` and `[` are the first byte of plain JSON.
 */
const compressedVersion = 2;
const plainJsonStarts = ['{', '['].map((character) => character.charCodeAt(0));
const compressionLevel = 3;
/** An index of a million blobs; what inflates to more is no document. */
const jsonMaxBytes = 256 << 20;

/**
 * @param repositoryVersion version 1 knows no compression
 * @throws TarsError `capture-failed` when it is larger than {@link decodeUnpacked} takes
 */
export function encodeUnpacked(json: string, repositoryVersion: number): Buffer {
  const bytes = Buffer.from(json);
  if (bytes.length > jsonMaxBytes) {
    throw new TarsError(
      'capture-failed',
      `A document of the repository would have ${bytes.length} bytes, more than ${jsonMaxBytes}`,
    );
  }
  if (repositoryVersion < 2) return bytes;
  const compressed = zstdCompressSync(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel },
  });
  return Buffer.concat([Buffer.of(compressedVersion), compressed]);
}

/**
 * The JSON text in `plaintext`.
 * @throws CorruptionError when it cannot be decompressed
 * @throws TarsError `unsupported-version` for an encoding this build does not know
 */
export function decodeUnpacked(plaintext: Buffer, what: string): string {
  const version = plaintext[0];
  if (version === undefined) throw new CorruptionError(`The ${what} is empty`);
  if (plaintext.length > jsonMaxBytes) {
    throw new CorruptionError(`The ${what} has ${plaintext.length} bytes, more than ${jsonMaxBytes}`);
  }
  if (plainJsonStarts.includes(version)) return plaintext.toString('utf8');
  if (version !== compressedVersion) {
    throw new TarsError('unsupported-version', `The ${what} is stored in the unknown encoding ${version}`, {
      hint: 'Use a newer tars, or the version of restic that wrote it.',
    });
  }
  try {
    return zstdDecompressSync(plaintext.subarray(1), { maxOutputLength: jsonMaxBytes }).toString('utf8');
  } catch (cause) {
    throw new CorruptionError(`The ${what} cannot be decompressed`, { cause });
  }
}
