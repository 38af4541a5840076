import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { artifactListPath, encodeArtifactLine, inlineArtifactsMax } from '../../model/artifact-list.ts';
import type { ComponentManifest, ManifestArtifact } from '../../model/manifest.ts';
import type { ArtifactSink } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';

/** What the manifest says of a component's artifacts. */
export type RecordedArtifacts = Pick<ComponentManifest, 'artifacts' | 'artifactList'>;

/** Lines go to the sink in pieces of this size; as many bytes wait for it at most. */
const pieceBytes = 64 << 10;

/** So many artifacts of one directory are put in order before they are written. */
const unorderedMax = 10_000;

/**
 * Collects what a component captured. When that becomes too much for the manifest, it goes into a list, which is written
 * like any other artifact while the capture goes on, and leaves memory.
 */
export class ArtifactRecorder {
  readonly #path: string;
  readonly #sink: ArtifactSink;
  readonly #ctx: OperationContext;
  #inline: ManifestArtifact[] = [];
  #list: GrowingList | undefined;

  constructor(component: string, sink: ArtifactSink, ctx: OperationContext) {
    this.#path = artifactListPath(component);
    this.#sink = sink;
    this.#ctx = ctx;
  }

  /** Resolves when there is room for more. */
  async add(artifact: ManifestArtifact): Promise<void> {
    if (this.#list !== undefined) {
      await this.#list.add(artifact);
      return;
    }
    this.#inline.push(artifact);
    if (this.#inline.length <= inlineArtifactsMax) return;
    const first = this.#inline;
    this.#inline = [];
    this.#list = new GrowingList(this.#path, this.#sink, this.#ctx);
    for (const each of first) await this.#list.add(each);
  }

  /**
   * A directory is finished. What was captured side by side until then is listed in the order of its paths: the list of
   * an unchanged directory has the same bytes each time, and is stored once.
   */
  async settle(): Promise<void> {
    await this.#list?.settle();
  }

  async finish(): Promise<RecordedArtifacts> {
    if (this.#list !== undefined) return { artifacts: [], artifactList: await this.#list.finish() };
    return { artifacts: this.#inline.sort((a, b) => (a.path < b.path ? -1 : 1)) };
  }

  /** Nothing of the list stays. */
  async abandon(reason: unknown): Promise<void> {
    await this.#list?.abandon(reason);
  }
}

class GrowingList {
  #unordered: ManifestArtifact[] = [];
  #lines: Uint8Array[] = [];
  #linesBytes = 0;
  #artifacts = 0;
  #artifactBytes = 0;
  readonly #body = new PassThrough({ highWaterMark: pieceBytes });
  readonly #written: Promise<ManifestArtifact>;

  constructor(path: string, sink: ArtifactSink, { clock, signal }: OperationContext) {
    const attributes = { mode: 0o600, uid: 0, gid: 0, mtimeNs: BigInt(clock.now().getTime()) * 1_000_000n };
    // What fails is told by the sink. Each capture waits here with as many artifacts as it has under way.
    this.#body.setMaxListeners(0).on('error', () => undefined);
    this.#written = sink.write(path, this.#body, { attributes, chunking: 'stream', signal });
    this.#written.catch(() => undefined);
  }

  async add(artifact: ManifestArtifact): Promise<void> {
    this.#unordered.push(artifact);
    if (this.#unordered.length >= unorderedMax) await this.settle();
  }

  async settle(): Promise<void> {
    const artifacts = this.#unordered.sort((a, b) => (a.path < b.path ? -1 : 1));
    this.#unordered = [];
    for (const artifact of artifacts) await this.#append(artifact);
  }

  async #append(artifact: ManifestArtifact): Promise<void> {
    const line = encodeArtifactLine(artifact);
    this.#artifacts++;
    this.#artifactBytes += artifact.sizeBytes;
    this.#linesBytes += line.length;
    this.#lines.push(line);
    if (this.#linesBytes < pieceBytes || this.#handOver()) return;
    await Promise.race([once(this.#body, 'drain'), this.#written]);
  }

  /** False when the sink is behind. */
  #handOver(): boolean {
    const piece = Buffer.concat(this.#lines);
    this.#lines = [];
    this.#linesBytes = 0;
    return this.#body.write(piece);
  }

  async finish(): Promise<NonNullable<RecordedArtifacts['artifactList']>> {
    await this.settle();
    this.#handOver();
    this.#body.end();
    const { path, sizeBytes, sha256 } = await this.#written;
    return { path, sizeBytes, sha256, artifacts: this.#artifacts, artifactBytes: this.#artifactBytes };
  }

  async abandon(reason: unknown): Promise<void> {
    this.#body.destroy(reason instanceof Error ? reason : undefined);
    await this.#written.catch(() => undefined);
  }
}
