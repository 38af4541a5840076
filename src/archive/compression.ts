import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { PassThrough, type Duplex } from 'node:stream';
import { CorruptionError } from '../model/errors.ts';
import type { ChunkingHint } from '../ports/artifacts.ts';

/** How an archive is compressed, a member of its own for every entry. */
export type ArchiveCompression = 'gzip' | 'zstd' | 'none';

/** How the names of archives end, by their compression. */
export const archiveSuffix: Readonly<Record<ArchiveCompression, string>> = {
  gzip: '.tar.gz',
  zstd: '.tar.zst',
  none: '.tar',
};

/**
 * The transform that makes one self-contained gzip member or zstd frame. An archive is a sequence of them, one
 * per entry (RFC 1952 section 2.2, RFC 8878 section 3): what a failed entry left can be cut off again.
 */
export function compressor(compression: ArchiveCompression, chunking: ChunkingHint): Duplex {
  switch (compression) {
    case 'none':
      return new PassThrough();
    case 'gzip':
      // Models do not compress; level 1 still carries the CRC.
      return createGzip({ level: chunking === 'large' ? 1 : 6 });
    case 'zstd':
      return createZstdCompress({
        params: {
          [constants.ZSTD_c_compressionLevel]: chunking === 'large' ? 1 : 3,
          [constants.ZSTD_c_checksumFlag]: 1,
        },
      });
  }
}

/** The transform that undoes {@link compressor} for a whole archive; zstd wants its frames cut apart before it. */
export function decompressor(compression: ArchiveCompression): Duplex {
  switch (compression) {
    case 'none':
      return new PassThrough();
    case 'gzip':
      return createGunzip();
    case 'zstd':
      return createZstdDecompress();
  }
}

/** How many bytes {@link detectCompression} wants. */
export const magicBytes = 512;

/** Tells the compression by the first bytes: gzip 1f 8b, zstd fd2fb528 (little-endian), `ustar` at offset 257. */
export function detectCompression(start: Buffer, file: string): ArchiveCompression {
  if (start[0] === 0x1f && start[1] === 0x8b) return 'gzip';
  if (start.length >= 4 && start.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  if (start.subarray(257, 262).toString('latin1') === 'ustar') return 'none';
  throw new CorruptionError(
    `${file} is neither a gzip, zstd nor plain tar archive, or its start is damaged`,
    {
      hint: 'Name a tars-backup-… file, or use another copy of it.',
    },
  );
}
