import tar from 'tar-stream';
import { throwIfAborted } from '../../../model/abort.ts';
import { toTarsError, type TarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import type { NewEntry } from '../../../ports/volume.ts';

/** Resolves to what went wrong with the entries, if something did. */
export async function packEntries(
  pack: tar.Pack,
  entries: AsyncIterable<NewEntry>,
  signal: AbortSignal,
): Promise<TarsError | undefined> {
  try {
    for await (const { path, type, attributes, sizeBytes, linkTarget, body } of entries) {
      throwIfAborted(signal);
      const { mode, uid, gid, mtimeNs } = attributes;
      const header = {
        ...{ name: path, type, mode, uid, gid, mtime: new Date(Number(mtimeNs / 1_000_000n)) },
        size: type === 'file' ? sizeBytes : 0,
        ...(linkTarget === undefined ? {} : { linkname: linkTarget }),
      };
      await packEntry(pack, header, type === 'file' ? body : undefined);
    }
    pack.finalize();
    return undefined;
  } catch (error) {
    const failure = toTarsError(error, 'Cannot read the files to write');
    pack.destroy(failure);
    return failure;
  }
}

async function packEntry(
  pack: tar.Pack,
  header: Parameters<tar.Pack['entry']>[0],
  body: Bytes | undefined,
): Promise<void> {
  if (body === undefined || header.size === 0) {
    await new Promise<void>((resolve, reject) => {
      pack.entry(header, '', (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    return;
  }
  const done = Promise.withResolvers<undefined>();
  done.promise.catch(() => undefined);
  const entry = pack.entry(header, (error) => {
    if (error) done.reject(error);
    else done.resolve(undefined);
  });
  for await (const chunk of body) {
    if (!entry.write(chunk)) {
      await Promise.race([
        new Promise<void>((resolve) => void entry.once('drain', () => resolve())),
        done.promise,
      ]);
    }
  }
  entry.end(undefined);
  await done.promise;
}
