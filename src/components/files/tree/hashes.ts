import { artifactsOf } from '../../../model/artifact-list.ts';
import type { ComponentManifest, ManifestArtifact } from '../../../model/manifest.ts';
import type { ArtifactSource } from '../../../ports/artifacts.ts';

/**
 * SHA-256 of artifacts, asked for about in the order of their capture: the manifest's list is read as far as that takes,
 * and only what was not asked for yet is remembered. A list that is not what the manifest says of it fails here.
 */
export class ArtifactHashes implements AsyncDisposable {
  readonly #artifacts: AsyncGenerator<ManifestArtifact>;
  readonly #waiting = new Map<string, string>();

  constructor(from: ComponentManifest, source: ArtifactSource, signal: AbortSignal) {
    this.#artifacts = artifactsOf(from, source, signal);
  }

  /** Undefined when the manifest does not list it. To be asked once for each artifact, one after the other. */
  async take(path: string): Promise<string | undefined> {
    const known = this.#waiting.get(path);
    if (known !== undefined) {
      this.#waiting.delete(path);
      return known;
    }
    for (;;) {
      const next = await this.#artifacts.next();
      if (next.done === true) return undefined;
      if (next.value.path === path) return next.value.sha256;
      this.#waiting.set(next.value.path, next.value.sha256);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#artifacts.return(undefined);
  }
}
