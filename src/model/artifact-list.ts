import { createHash } from 'node:crypto';
import { CorruptionError } from './errors.ts';
import { decodeArtifact, type ComponentManifest, type ManifestArtifact } from './manifest.ts';

/** More than these are not listed in the manifest itself. */
export const inlineArtifactsMax = 1000;

/** A line is a path of at most {@link import('./limits.ts').pathMaxBytes}, written with escapes at worst, and numbers. */
const lineMaxBytes = 256 << 10;

/** What a list is read from; every `ArtifactSource` is one. */
interface Readable {
  open(path: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

type Listed = Pick<ComponentManifest, 'artifacts' | 'artifactList'>;

/** The list of a component with many artifacts. No component is called `manifest.d`: its name has no dot. */
export function artifactListPath(component: string): string {
  return `manifest.d/${component}.jsonl`;
}

/** Whether it is the path of a list. */
export function isArtifactList(path: string): boolean {
  return /^manifest\.d\/[^/]+\.jsonl$/.test(path);
}

/** One line of a list, newline included. */
export function encodeArtifactLine({ path, sizeBytes, sha256, chunking }: ManifestArtifact): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ path, sizeBytes, sha256, chunking })}\n`);
}

/** @throws CorruptionError when it does not describe an artifact */
export function decodeArtifactLine(line: Uint8Array, list: string): ManifestArtifact {
  try {
    return decodeArtifact(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line)));
  } catch (cause) {
    throw new CorruptionError(`A line of ${list} does not describe an artifact`, { cause });
  }
}

/**
 * The artifacts of a component in the order in which they were captured, wherever they are listed; read once, none is
 * kept.
 * @throws CorruptionError when the list does not match the manifest; what was yielded before may be wrong then
 */
export async function* artifactsOf(
  { artifacts, artifactList }: Listed,
  source: Readable,
  signal: AbortSignal,
): AsyncGenerator<ManifestArtifact> {
  yield* artifacts;
  if (artifactList === undefined) return;
  const { path, sizeBytes, sha256 } = artifactList;
  const hash = createHash('sha256');
  let [readBytes, count, artifactBytes] = [0, 0, 0];
  const seen = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source.open(path, signal)) {
      hash.update(chunk);
      readBytes += chunk.length;
      yield chunk;
    }
  };
  for await (const line of linesOf(seen(), path)) {
    const artifact = decodeArtifactLine(line, path);
    count++;
    artifactBytes += artifact.sizeBytes;
    yield artifact;
  }
  const isWhole =
    readBytes === sizeBytes &&
    count === artifactList.artifacts &&
    artifactBytes === artifactList.artifactBytes &&
    hash.digest('hex') === sha256;
  if (!isWhole) throw new CorruptionError(`${path} does not match the manifest`);
}

/** All of them at once, for components that have no more than some thousands. */
export function collectArtifacts(
  component: Listed,
  source: Readable,
  signal: AbortSignal,
): Promise<ManifestArtifact[]> {
  return Array.fromAsync(artifactsOf(component, source, signal));
}

/** The same component with all its artifacts in place, as if there were no list. */
export async function withArtifacts(
  component: ComponentManifest,
  source: Readable,
  signal: AbortSignal,
): Promise<ComponentManifest> {
  const { artifactList: _, ...rest } = component;
  return { ...rest, artifacts: await collectArtifacts(component, source, signal) };
}

/** How many artifacts a component has, and how many bytes they have together. */
export function artifactTotals({ artifacts, artifactList }: Listed): {
  readonly count: number;
  readonly sizeBytes: number;
} {
  return {
    count: artifacts.length + (artifactList?.artifacts ?? 0),
    sizeBytes: artifacts.reduce((sum, { sizeBytes }) => sum + sizeBytes, artifactList?.artifactBytes ?? 0),
  };
}

/** Lines without their newlines. @throws CorruptionError as {@link LineSplitter} does */
export async function* linesOf(bytes: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  const splitter = new LineSplitter(what);
  for await (const chunk of bytes) yield* splitter.push(chunk);
  splitter.end();
}

/** Cuts bytes into lines. @throws CorruptionError when one is too long, or the last one is cut off */
export class LineSplitter {
  readonly #what: string;
  #pending: Uint8Array = new Uint8Array();

  constructor(what: string) {
    this.#what = what;
  }

  /** The lines that end in `chunk`. */
  push(chunk: Uint8Array): Uint8Array[] {
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const lines: Uint8Array[] = [];
    let start = 0;
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
      lines.push(bytes.subarray(start, end));
      start = end + 1;
    }
    // A copy: the memory of a chunk may be used again.
    this.#pending = Uint8Array.from(bytes.subarray(start));
    if (this.#pending.length > lineMaxBytes) throw new CorruptionError(`A line of ${this.#what} is too long`);
    return lines;
  }

  end(): void {
    if (this.#pending.length > 0) throw new CorruptionError(`The last line of ${this.#what} is cut off`);
  }
}

const newline = 0x0a;
