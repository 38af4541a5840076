import { createHash } from 'node:crypto';
import { decodeArtifactLine, linesOf } from '../../model/artifact-list.ts';
import { CorruptionError } from '../../model/errors.ts';
import type { ComponentManifest, ManifestArtifact } from '../../model/manifest.ts';
import type { BlobReader } from '../blobs/blob-reader.ts';
import type { SnapshotTree } from './snapshot-tree.ts';

/** Lines are looked up by the page: some hundreds of them. */
const pageBytes = 64 << 10;
/** More than one, since some files are captured at the same time. */
const pagesKept = 8;
const idBytes = 32;

/** Consecutive lines of a list. */
interface Page {
  readonly startBytes: number;
  readonly endBytes: number;
  /** The least and the greatest path, as {@link sortKey} orders them. */
  readonly first: string;
  readonly last: string;
}

type Records = ReadonlyMap<string, ManifestArtifact>;
type ArtifactList = NonNullable<ComponentManifest['artifactList']>;

/**
 * Finds single artifacts in a component's list without holding it: what is kept are where its pages begin and a few of
 * them. Whoever asks in the order of the list, or nearly so, reads each page once.
 */
export class ListedArtifacts {
  readonly #reader: BlobReader;
  readonly #path: string;
  readonly #content: Buffer;
  /** Where each blob of the content begins. */
  readonly #starts: readonly number[];
  /** By their least path. */
  readonly #pages: readonly Page[];
  /** The greatest path of all pages up to each. */
  readonly #lastUpTo: readonly string[];
  readonly #kept = new Map<Page, Promise<Records>>();

  private constructor(
    reader: BlobReader,
    path: string,
    content: Buffer,
    { starts, pages }: { readonly starts: readonly number[]; readonly pages: readonly Page[] },
  ) {
    this.#reader = reader;
    this.#path = path;
    this.#content = content;
    this.#starts = starts;
    this.#pages = pages.toSorted((a, b) => (a.first < b.first ? -1 : 1));
    let greatest = '';
    this.#lastUpTo = this.#pages.map(({ last }) => (greatest = last > greatest ? last : greatest));
  }

  /** Reads the list once. @throws CorruptionError when it does not match the manifest */
  static async open(
    reader: BlobReader,
    tree: SnapshotTree,
    list: ArtifactList,
    signal: AbortSignal,
  ): Promise<ListedArtifacts> {
    const { path } = list;
    const node = await tree.find(path, signal);
    if (node?.type !== 'file' || !node.content) throw new CorruptionError(`There is no ${path}`);
    const paged = await readPages(reader.readContent(node.content, signal), list);
    return new ListedArtifacts(reader, path, node.content, paged);
  }

  /** @throws CorruptionError */
  async find(path: string, signal: AbortSignal): Promise<ManifestArtifact | undefined> {
    for (const page of this.#pagesWith(sortKey(path))) {
      const found = (await this.#records(page, signal)).get(path);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** One page, or two where files were captured at the same time. */
  *#pagesWith(key: string): Generator<Page> {
    const from = lowerBound(this.#pages.length, (at) => (this.#pages[at]?.first ?? '') > key);
    for (let at = from - 1; at >= 0 && (this.#lastUpTo[at] ?? '') >= key; at--) {
      const page = this.#pages[at];
      if (page && page.last >= key) yield page;
    }
  }

  #records(page: Page, signal: AbortSignal): Promise<Records> {
    const records = this.#kept.get(page) ?? this.#read(page, signal);
    this.#kept.delete(page);
    this.#kept.set(page, records);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > pagesKept && oldest !== undefined) this.#kept.delete(oldest);
    return records;
  }

  async #read({ startBytes, endBytes }: Page, signal: AbortSignal): Promise<Records> {
    const records = new Map<string, ManifestArtifact>();
    for await (const line of linesOf(this.#range(startBytes, endBytes, signal), this.#path)) {
      const artifact = decodeArtifactLine(line, this.#path);
      records.set(artifact.path, artifact);
    }
    return records;
  }

  async *#range(startBytes: number, endBytes: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const after = (bytes: number): number =>
      lowerBound(this.#starts.length, (at) => (this.#starts[at] ?? 0) >= bytes);
    const from = after(startBytes + 1) - 1;
    let at = this.#starts[from] ?? 0;
    const content = this.#content.subarray(from * idBytes, after(endBytes) * idBytes);
    for await (const blob of this.#reader.readContent(content, signal)) {
      yield blob.subarray(Math.max(0, startBytes - at), endBytes - at);
      at += blob.length;
    }
  }
}

/** Where blobs and pages of a list begin. */
async function readPages(
  blobs: AsyncIterable<Uint8Array>,
  { path, sizeBytes, sha256 }: ArtifactList,
): Promise<{ readonly starts: readonly number[]; readonly pages: readonly Page[] }> {
  const hash = createHash('sha256');
  const starts: number[] = [];
  let readBytes = 0;
  const seen = async function* (): AsyncGenerator<Uint8Array> {
    for await (const blob of blobs) {
      starts.push(readBytes);
      readBytes += blob.length;
      hash.update(blob);
      yield blob;
    }
  };
  const pages: Page[] = [];
  let page: Page | undefined;
  let endBytes = 0;
  for await (const line of linesOf(seen(), path)) {
    const key = sortKey(decodeArtifactLine(line, path).path);
    const { startBytes, first, last } = page ?? { startBytes: endBytes, first: key, last: key };
    endBytes += line.length + 1;
    page = { startBytes, endBytes, first: key < first ? key : first, last: key > last ? key : last };
    if (endBytes - startBytes < pageBytes) continue;
    pages.push(page);
    page = undefined;
  }
  if (page) pages.push(page);
  if (readBytes !== sizeBytes || hash.digest('hex') !== sha256) {
    throw new CorruptionError(`${path} does not match the manifest`);
  }
  return { starts, pages };
}

/** The first of `count` numbers from 0 that `isBeyond`, which holds for all after it too. */
function lowerBound(count: number, isBeyond: (at: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBeyond(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The order in which trees are walked: what is in a directory comes before what only begins with its name. */
function sortKey(path: string): string {
  return path.replaceAll('/', '\0');
}
