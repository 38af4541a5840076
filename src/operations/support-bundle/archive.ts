import { pack } from 'tar-stream';
import { promisify } from 'node:util';
import { gzip, zstdCompress } from 'node:zlib';
import { TarsError } from '../../model/errors.ts';
import { CleanFile } from './clean.ts';

/** How a bundle is compressed, by how its name ends. */
export type BundleCompression = 'gzip' | 'zstd';

/** A clean file under the name that it has in the archive. */
export interface PlacedFile {
  readonly path: string;
  readonly file: CleanFile;
}

/** Packs clean files below one folder. They are few and small: the archive is made in memory. */
export async function packBundle(
  folder: string,
  files: readonly PlacedFile[],
  time: Date,
  compression: BundleCompression,
): Promise<Uint8Array> {
  const tar = pack();
  const chunks: Buffer[] = [];
  tar.on('data', (chunk) => chunks.push(chunk as Buffer));
  for (const { path, file } of files) {
    if (!CleanFile.is(file)) throw new TarsError('internal', 'What has not been redacted is not packed');
    tar.entry({ name: `${folder}/${path}`, mode: 0o600, mtime: time }, file.text);
  }
  const ended = new Promise<void>((resolve, reject) => {
    tar.once('end', () => resolve());
    tar.once('error', reject);
  });
  tar.finalize();
  await ended;
  const compress = compression === 'gzip' ? promisify(gzip) : promisify(zstdCompress);
  return compress(Buffer.concat(chunks));
}
