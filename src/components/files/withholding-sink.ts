import { TarsError } from '../../model/errors.ts';
import type { ArtifactSink, Bytes, FileIdentity, WriteOptions } from '../../ports/artifacts.ts';
import type { SecretLook } from '../../ports/kind.ts';
import type { ManifestArtifact } from '../../model/manifest.ts';

/** How a file that is not written is told from a failure. */
class WithheldError extends TarsError {
  constructor(path: string) {
    super('capture-failed', `${path} holds a secret, so it is not written in the clear`);
  }
}

export function isWithheld(error: unknown): boolean {
  return error instanceof WithheldError;
}

/** Writes into a destination that is not encrypted, without the files that hold secrets. */
export class WithholdingSink implements ArtifactSink {
  readonly encrypted = false;
  readonly #sink: ArtifactSink;
  readonly #look: SecretLook;

  constructor(sink: ArtifactSink, look: SecretLook) {
    this.#sink = sink;
    this.#look = look;
  }

  /** @throws WithheldError when the file holds a secret; nothing of it is written */
  async write(path: string, body: Bytes, options: WriteOptions): Promise<ManifestArtifact> {
    const iterator = body[Symbol.asyncIterator]();
    const chunks: Uint8Array[] = [];
    let [bytes, isWhole] = [0, false];
    while (!isWhole && bytes <= this.#look.bytesMax) {
      const step = await iterator.next();
      if (step.done === true) isWhole = true;
      else {
        chunks.push(step.value);
        bytes += step.value.byteLength;
      }
    }
    if (this.#look.holdsSecret({ path, head: Buffer.concat(chunks), isWhole })) {
      await iterator.return?.();
      throw new WithheldError(path);
    }
    const rest: AsyncIterator<Uint8Array> = {
      async next() {
        const value = chunks.shift();
        return value === undefined ? await iterator.next() : { done: false, value };
      },
      async return() {
        await iterator.return?.();
        return { done: true, value: undefined };
      },
    };
    return this.#sink.write(path, { [Symbol.asyncIterator]: () => rest }, options);
  }

  readonly reuse: ArtifactSink['reuse'] = (...file) => this.#sink.reuse(...file);
  readonly directory: ArtifactSink['directory'] = (...entry) => this.#sink.directory(...entry);
  readonly symlink: ArtifactSink['symlink'] = (...entry) => this.#sink.symlink(...entry);
  readonly special: ArtifactSink['special'] = (...entry) => this.#sink.special(...entry);
  readonly finish: ArtifactSink['finish'] = (path) => this.#sink.finish(path);
  link(path: string, existing: string, identity: FileIdentity): Promise<ManifestArtifact> {
    return this.#sink.link(path, existing, identity);
  }
}
