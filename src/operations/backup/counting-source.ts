import type { ArtifactSource } from '../../ports/artifacts.ts';

/** `source`, telling how many bytes are read through it. */
export function countingSource(source: ArtifactSource, advance: (bytes: number) => void): ArtifactSource {
  return {
    entries: (prefix, signal) => source.entries(prefix, signal),
    async *open(path, signal) {
      for await (const chunk of source.open(path, signal)) {
        advance(chunk.byteLength);
        yield chunk;
      }
    },
  };
}
