import type { ChunkingHint } from '../../ports/artifacts.ts';

/**
 * How one artifact is cut. `fixed`: every chunk has the size. `gear`: content-defined, the size is the average.
 * Either way the size holds for the first 65,536 chunks and doubles after each further 65,536, so that no stream,
 * however long, becomes more than some hundred thousand blobs; it doubles at most up to {@link chunkMaxBytes}.
 */
export interface ChunkParameters {
  readonly method: 'fixed' | 'gear';
  readonly sizeBytes: number;
}

/** No chunk is longer. restic's own chunker has the same limit. */
export const chunkMaxBytes = 8 << 20;
/** Gear chunks are up to eight times the average. */
const gearAverageMaxBytes = chunkMaxBytes / 8;
/** After this many chunks the chunk size doubles; it is also chosen so that an artifact has no more chunks than this. */
export const chunksPerSize = 1 << 16;
/** How far an artifact may outgrow its chunk size before all of it is cut and stored again. */
const growthMax = 8;

/** What the bytes are decides the smallest size worth its overhead (DESIGN.md, section 6). */
const startingParameters: Readonly<Record<ChunkingHint, ChunkParameters>> = {
  // Half of that costs a fifth more processor time and a twentieth more bytes, and saves a fifth after clustered changes.
  stream: { method: 'gear', sizeBytes: 32 << 10 },
  pages: { method: 'fixed', sizeBytes: 64 << 10 },
  large: { method: 'fixed', sizeBytes: chunkMaxBytes },
  // A quarter of the average is the shortest chunk: up to 256 KiB a file stays whole.
  small: { method: 'gear', sizeBytes: 1 << 20 },
};

/** How the same artifact was cut in the parent snapshot. */
interface PreviousChunking {
  /** As the manifest records it. */
  readonly chunking: string | undefined;
  readonly sizeBytes: number;
}

/**
 * Chooses the parameters for an artifact. Those of the parent snapshot stay until the artifact has outgrown them
 * eight times over: other ones would store all of it again.
 * @param sizeBytes undefined when unknown; the previous size is the best guess then
 */
export function chooseParameters(
  hint: ChunkingHint,
  sizeBytes: number | undefined,
  previous: PreviousChunking | undefined,
): ChunkParameters {
  const expectedBytes = sizeBytes ?? previous?.sizeBytes ?? 0;
  const start = startingParameters[hint];
  const inherited = parseParameters(previous?.chunking);
  if (
    inherited?.method === start.method &&
    expectedBytes <= inherited.sizeBytes * chunksPerSize * growthMax
  ) {
    return inherited;
  }
  let size = start.sizeBytes;
  while (size < sizeMaxBytes(start.method) && expectedBytes > size * chunksPerSize) size *= 2;
  return { method: start.method, sizeBytes: size };
}

/** The largest size of a method, where doubling ends. */
export function sizeMaxBytes(method: ChunkParameters['method']): number {
  return method === 'fixed' ? chunkMaxBytes : gearAverageMaxBytes;
}

/** As the manifest records it, such as `gear:32768`. */
export function formatParameters({ method, sizeBytes }: ChunkParameters): string {
  return `${method}:${sizeBytes}`;
}

/** Undefined for parameters that this build does not know; the artifact is then cut again. */
export function parseParameters(text: string | undefined): ChunkParameters | undefined {
  const match = /^(fixed|gear):(\d{3,8})$/.exec(text ?? '');
  if (!match) return undefined;
  const method = match[1] === 'fixed' ? 'fixed' : 'gear';
  const sizeBytes = Number(match[2]);
  const powerOfTwo = (sizeBytes & (sizeBytes - 1)) === 0;
  return powerOfTwo && sizeBytes <= sizeMaxBytes(method) ? { method, sizeBytes } : undefined;
}
