import type { Readable } from 'node:stream';
import tar from 'tar-stream';
import { abortError, throwIfAborted } from '../../../model/abort.ts';
import { TarsError } from '../../../model/errors.ts';
import type { Bytes } from '../../../ports/artifacts.ts';
import { engineError, engineStatus, type Engine } from './engine.ts';

/** The first entry of a path's archive: a file, or a directory with whatever comes after it. */
export interface ArchivedEntry {
  readonly header: tar.Header;
  /** Of a file. Fails unless all of it comes, and the archive ends with it. Closes when it was read or left. */
  readonly body: Bytes;
  /** Ends the reading. Harmless when it has ended; without it the Engine does nothing else with the container. */
  close(): void;
}

/**
 * Reads a path of a container, running or not, in a mount or not.
 * @param what the beginning of error messages, such as `Cannot read /data in the container db`
 * @returns undefined when it is not there
 * @throws TarsError; InterruptedError
 */
export async function openArchive(
  engine: Engine,
  containerId: string,
  path: string,
  what: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<ArchivedEntry | undefined> {
  throwIfAborted(signal);
  const failure = (error: unknown): TarsError =>
    signal.aborted ? abortError(signal, error) : engineError(error, what);
  let stream: NodeJS.ReadableStream;
  try {
    stream = await engine.getContainer(containerId).getArchive({ path, abortSignal: signal });
  } catch (error) {
    if (engineStatus(error) === 404) return undefined;
    throw failure(error);
  }
  return firstEntry(stream as unknown as Readable, what, failure);
}

async function firstEntry(
  archive: Readable,
  what: string,
  failure: (error: unknown) => TarsError,
): Promise<ArchivedEntry> {
  const extract = tar.extract();
  archive.on('error', (error) => extract.destroy(error));
  archive.on('close', () => {
    if (!archive.readableEnded) extract.destroy(new Error('The Engine truncated it'));
  });
  archive.pipe(extract);
  const close = (): void => {
    archive.destroy();
    extract.destroy();
  };
  const iterator = extract[Symbol.asyncIterator]();
  try {
    const next = await iterator.next();
    if (next.done === true) throw new TarsError('subprocess', `${what}: the Engine sent nothing`);
    const entry = next.value;
    return { header: entry.header, body: body(entry as unknown as AsyncIterable<Buffer>), close };

    async function* body(chunks: AsyncIterable<Buffer>): Bytes {
      try {
        let readBytes = 0;
        for await (const chunk of chunks) {
          readBytes += chunk.length;
          yield chunk;
        }
        // Also the end must come: a file that grew or shrank meanwhile breaks the archive there.
        if (readBytes !== entry.header.size || (await iterator.next()).done !== true)
          throw new Error('it changed while it was read');
      } catch (error) {
        throw failure(error);
      } finally {
        close();
      }
    }
  } catch (error) {
    close();
    throw failure(error);
  }
}
