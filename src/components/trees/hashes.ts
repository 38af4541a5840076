import type { ComponentManifest } from '../../model/manifest.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';

/**
 * SHA-256 of artifacts, as they are asked for about in the order of their capture: the manifest's list is read as far as
 * that takes, and what was not asked for yet is remembered.
 */
export class ArtifactHashes {
  readonly #waiting = new Map<string, string>();

  constructor(from: ComponentManifest, _source: ArtifactSource, _signal: AbortSignal) {
    for (const { path, sha256 } of from.artifacts) this.#waiting.set(path, sha256);
  }

  /** Undefined when the manifest does not list it. To be asked once for each artifact. */
  take(path: string): Promise<string | undefined> {
    return Promise.resolve(this.#waiting.get(path));
  }
}
