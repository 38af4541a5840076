import { throwIfAborted } from '../../model/abort.ts';
import { artifactsOf } from '../../model/artifact-list.ts';
import { localOffsetAt } from '../../model/calendar.ts';
import { CorruptionError, messageOf, RepositoryLockedError, TarsError } from '../../model/errors.ts';
import {
  encodeManifest,
  manifestPath,
  outcomeTags,
  type Manifest,
  type ManifestArtifact,
} from '../../model/manifest.ts';
import type { PublishedSnapshot } from '../../model/snapshot.ts';
import type {
  ArtifactAttributes,
  BodyStore,
  Bytes,
  FileIdentity,
  SpecialFile,
  StoredBody,
  StoreOptions,
  WriteOptions,
} from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { SnapshotLabel, SnapshotWriter } from '../../ports/snapshot-store.ts';
import { storeBody } from './artifact-body.ts';
import type { BlobIndex } from '../blobs/blob-index.ts';
import { BlobReader } from '../blobs/blob-reader.ts';
import { deriveGearTable, type GearTable } from '../chunker/gear.ts';
import { chooseParameters, formatParameters } from '../chunker/parameters.ts';
import { dateToNs, parseGoTime } from '../format/go-time.ts';
import { encodeSnapshot, type SnapshotFile } from '../format/snapshot-file.ts';
import type { TreeNode } from '../format/tree.ts';
import { HardLinks } from './hard-links.ts';
import type { HeldLock } from '../lock/held-lock.ts';
import {
  nodeLinks,
  nodeOwner,
  nodeSpecial,
  nodeTimes,
  ownerOfProcess,
  reusedNode,
} from './node-attributes.ts';
import type { OpenedRepository } from '../open.ts';
import type { FinishedPack } from '../seal/pack-builder.ts';
import type { ParentSnapshot, ReusableArtifact } from './parent-snapshot.ts';
import { PendingIndex } from '../seal/pending-index.ts';
import { SealPool } from '../seal/pool.ts';
import { stackPath, summarize } from './snapshot-list.ts';
import { RepositorySnapshotSource } from './snapshot-source.ts';
import { TreeDraft, TreeWriter } from './tree-writer.ts';

/** An abandoned run may take so long to index what it stored. */
const abandonMs = 30_000;

/** How chunks are stored; the defaults are right for everybody but tests and benches. */
export interface WriterTuning {
  /** zstd's, 1 to 19; 0 stores everything as it is. Default 3. */
  readonly compressionLevel?: number;
  /** Sealing threads. Default: one for each processor, at most three. */
  readonly workers?: number;
}

/** What a writer works with. The lock is its own from then on: it disposes of it. */
interface WriterParts {
  readonly repository: OpenedRepository;
  readonly index: BlobIndex;
  readonly lock: HeldLock;
  readonly label: SnapshotLabel;
  /** Newest first. */
  readonly parents: readonly ParentSnapshot[];
  readonly parentId: string | undefined;
  readonly tuning: WriterTuning;
}

/**
 * Writes a snapshot in the order that leaves no half one behind: packs, index, snapshot (restic `doc/design.rst`,
 * "Read and Write Ordering"). Until the last there is nothing anybody would see.
 */
export class RepositorySnapshotWriter implements SnapshotWriter {
  readonly encrypted = true;
  readonly #parts: WriterParts;
  readonly #ctx: OperationContext;
  readonly #signal: AbortSignal;
  readonly #pool: SealPool;
  readonly #pending: PendingIndex;
  readonly #trees: TreeWriter;
  readonly #draft: TreeDraft;
  readonly #hardLinks = new HardLinks();
  readonly #gearTable: GearTable;
  readonly #compressionLevel: number;
  readonly #stopFailing: () => void;
  #processedBytes = 0;
  #addedBytes = 0;
  #newBlobs = 0;
  #reusedBlobs = 0;
  #state: 'open' | 'publishing' | 'published' | 'disposed' = 'open';

  constructor(parts: WriterParts, ctx: OperationContext) {
    const { repository, tuning, lock, index } = parts;
    this.#parts = parts;
    this.#ctx = ctx;
    this.#signal = AbortSignal.any([ctx.signal, lock.signal]);
    this.#gearTable = deriveGearTable(repository.config.chunkerPolynomial);
    this.#compressionLevel = repository.config.version < 2 ? 0 : (tuning.compressionLevel ?? 3);
    this.#pending = new PendingIndex(repository, index, ctx.clock);
    this.#pool = new SealPool({
      key: repository.crypto.material,
      compressionLevel: this.#compressionLevel,
      ...(tuning.workers === undefined ? {} : { workers: tuning.workers }),
      decide: (ids) => this.#decide(ids),
      store: (pack, bytes) => this.#storePack(pack, bytes, this.#signal),
    });
    this.#trees = new TreeWriter({
      key: repository.crypto,
      compressionLevel: this.#compressionLevel,
      index,
      store: (pack, bytes) => this.#storePack(pack, bytes, this.#signal),
    });
    const parent = { ...ownerOfProcess(), mode: 0o755, mtimeNs: dateToNs(ctx.clock.now()) };
    this.#draft = new TreeDraft(this.#trees, {
      type: 'dir',
      ...nodeTimes(parent, undefined),
      ...nodeOwner(parent),
    });
    const fail = (): void => this.#pool.fail(this.#signal.reason);
    this.#signal.addEventListener('abort', fail, { once: true });
    this.#stopFailing = () => this.#signal.removeEventListener('abort', fail);
  }

  async write(path: string, body: Bytes, options: WriteOptions): Promise<ManifestArtifact> {
    this.#requireOpen();
    return this.#write(path, body, options);
  }

  async #write(path: string, body: Bytes, options: WriteOptions): Promise<ManifestArtifact> {
    return this.#place(path, await this.#store(path, body, options), options);
  }

  readonly bodies: BodyStore = {
    store: async (path, body, options) => {
      this.#requireOpen();
      return this.#store(path, body, options);
    },
    known: async (path, identity) => {
      this.#requireOpen();
      const found = await this.#unchanged(path, identity);
      if (found === undefined) return undefined;
      const { node, artifact } = found;
      const token = node.content ?? Buffer.alloc(0);
      this.#reusedBlobs += token.length / 32;
      const { sizeBytes, sha256, chunking } = artifact;
      return { sizeBytes, sha256, token, ...(chunking === undefined ? {} : { chunking }) };
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- errors are rejections, whatever the entry
    place: async (path, body, options) => {
      this.#requireOpen();
      return this.#place(path, body, options);
    },
  };

  async #store(path: string, body: Bytes, options: StoreOptions): Promise<StoredBody> {
    const { chunking, sizeBytes: expectedBytes } = options;
    const previous = await this.#previous(path);
    const parameters = chooseParameters(
      chunking,
      expectedBytes,
      previous && { chunking: previous.chunking, sizeBytes: previous.sizeBytes },
    );
    const { sizeBytes, sha256, content } = await storeBody(body, this.#pool, {
      path,
      parameters,
      gearTable: this.#gearTable,
      compress: chunking !== 'large',
      expectedBytes,
      signal: this.#signalWith(options.signal),
    });
    return { sizeBytes, sha256, chunking: formatParameters(parameters), token: content };
  }

  #place(
    path: string,
    { sizeBytes, sha256, chunking, token }: StoredBody,
    { attributes, identity }: Pick<WriteOptions, 'attributes' | 'identity'>,
  ): ManifestArtifact {
    const artifact = { path, sizeBytes, sha256, ...(chunking === undefined ? {} : { chunking }) };
    const times = { ...nodeTimes(attributes, identity), ...nodeOwner(attributes), ...nodeLinks(identity) };
    this.#addFile(artifact, { type: 'file', ...times, sizeBytes, content: Buffer.from(token) });
    this.#processedBytes += sizeBytes;
    return artifact;
  }

  /** Combined only where it has to be: a snapshot may have a million files. */
  #signalWith(signal: AbortSignal): AbortSignal {
    return signal === this.#ctx.signal ? this.#signal : AbortSignal.any([this.#signal, signal]);
  }

  /** How it was cut before. */
  async #previous(path: string): Promise<ManifestArtifact | undefined> {
    for (const parent of this.#parts.parents) {
      const found = await this.#attempt(path, () => parent.artifact(path, this.#signal));
      if (found) return found;
    }
    return undefined;
  }

  #addFile(artifact: ManifestArtifact, node: Omit<TreeNode, 'name'>): void {
    this.#draft.add(artifact.path, node);
    this.#hardLinks.note(artifact, node);
  }

  async reuse(
    path: string,
    identity: FileIdentity,
    attributes?: ArtifactAttributes,
  ): Promise<ManifestArtifact | undefined> {
    this.#requireOpen();
    const found = await this.#unchanged(path, identity);
    if (found === undefined) return undefined;
    const { node, artifact } = found;
    this.#addFile(artifact, reusedNode(node, identity, attributes));
    this.#processedBytes += artifact.sizeBytes;
    this.#reusedBlobs += (node.content?.length ?? 0) / 32;
    return artifact;
  }

  async #unchanged(path: string, identity: FileIdentity): Promise<ReusableArtifact | undefined> {
    for (const parent of this.#parts.parents) {
      const found = await this.#attempt(path, () => parent.unchanged(path, identity, this.#signal));
      if (found) return found;
    }
    return undefined;
  }

  /** A parent with a damaged tree or list is no reason not to back up. */
  async #attempt<T>(path: string, look: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await look();
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.#ctx.log.warn(`Reading ${path} again: ${error.message}`);
      return undefined;
    }
  }

  directory(path: string, attributes: ArtifactAttributes): Promise<void> {
    return this.#add(path, { type: 'dir', ...nodeTimes(attributes, undefined), ...nodeOwner(attributes) });
  }

  symlink(path: string, target: string, attributes: ArtifactAttributes): Promise<void> {
    const node = { ...nodeTimes(attributes, undefined), ...nodeOwner(attributes), links: 1 };
    return this.#add(path, { type: 'symlink', ...node, linkTarget: target });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- errors are rejections, whatever the entry
  async link(path: string, existing: string, identity: FileIdentity): Promise<ManifestArtifact> {
    this.#requireOpen();
    const { artifact, node } = this.#hardLinks.next(existing, identity);
    this.#draft.add(path, { ...node, ...nodeLinks(identity) });
    return { ...artifact, path };
  }

  special(path: string, file: SpecialFile, attributes: ArtifactAttributes): Promise<void> {
    const times = { ...nodeTimes(attributes, undefined), ...nodeOwner(attributes) };
    // restic gives devices a number of names, and neither pipes nor sockets.
    const links = file.device === undefined ? {} : { links: 1 };
    return this.#add(path, { ...nodeSpecial(file), ...times, ...links });
  }

  async finish(path: string): Promise<void> {
    this.#requireOpen();
    await this.#draft.finish(path);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- errors are rejections, whatever the entry
  async #add(path: string, node: Omit<TreeNode, 'name'>): Promise<void> {
    this.#requireOpen();
    this.#draft.add(path, node);
  }

  async publish(manifest: Manifest, ctx: OperationContext): Promise<PublishedSnapshot> {
    this.#requireOpen();
    this.#state = 'publishing';
    const signal = AbortSignal.any([this.#signal, ctx.signal]);
    await this.#writeManifest(manifest, signal);
    await this.#pool.flush();
    const tree = await this.#draft.save(stackPath(this.#parts.label.stack).slice(1).split('/'));
    await this.#trees.flush();
    await this.#pending.save(signal);
    // A lock that was lost means that somebody may be deleting what this snapshot refers to.
    throwIfAborted(signal);
    await this.#parts.lock.confirm();
    const file = this.#snapshotFile(manifest, tree);
    await this.#readBack(file, signal);
    const id = await this.#parts.repository.saveUnpacked('snapshots', encodeSnapshot(file), signal);
    this.#state = 'published';
    return {
      summary: summarize({ id, file }),
      processedBytes: this.#processedBytes,
      addedBytes: this.#addedBytes,
      newBlobs: this.#newBlobs,
      reusedBlobs: this.#reusedBlobs,
    };
  }

  async #writeManifest(manifest: Manifest, signal: AbortSignal): Promise<void> {
    const bytes = encodeManifest(manifest);
    const attributes = { ...ownerOfProcess(), mode: 0o600, mtimeNs: parseGoTime(manifest.time) };
    const options = { attributes, chunking: 'small', sizeBytes: bytes.length, signal } as const;
    await this.#write(manifestPath, once(bytes), options);
  }

  /**
   * What describes the snapshot is read from the storage as a restore would read it, with the same limits: a snapshot
   * that nobody can read must not be published.
   */
  async #readBack(file: SnapshotFile, signal: AbortSignal): Promise<void> {
    const { repository, index } = this.#parts;
    const reader = new BlobReader(repository, index);
    const source = new RepositorySnapshotSource(reader, { id: file.tree, file }, () => Promise.resolve());
    try {
      const { components } = await source.manifest(signal);
      for (const component of components) {
        for await (const _ of artifactsOf(component, source, signal)) throwIfAborted(signal);
      }
    } catch (cause) {
      if (!(cause instanceof TarsError) || cause.code === 'interrupted') throw cause;
      throw new TarsError(
        'capture-failed',
        `The new snapshot cannot be read back, so it is not published: ${cause.message}`,
        { hint: 'Check the disk of the repository and the memory of this machine.', cause },
      );
    }
  }

  #snapshotFile(manifest: Manifest, tree: string): SnapshotFile {
    const { label, parentId } = this.#parts;
    const time = new Date(manifest.time);
    return {
      timeNs: dateToNs(time),
      // As restic does: days are the operator's when retention counts them.
      utcOffsetMinutes: localOffsetAt(time.getTime()),
      ...(parentId === undefined ? {} : { parent: parentId }),
      tree,
      paths: [stackPath(label.stack)],
      hostname: label.hostname,
      username: label.username,
      ...ownerOfProcess(),
      tags: ['tars', ...outcomeTags(manifest)],
      programVersion: `tars ${manifest.toolVersion}`,
      summary: { addedBytes: this.#addedBytes, processedBytes: this.#processedBytes },
    };
  }

  #decide(ids: Uint8Array): Uint8Array {
    const wanted = new Uint8Array(ids.length / 32);
    for (let i = 0; i < wanted.length; i++) {
      const isNew = this.#parts.index.announce(ids.subarray(i * 32, i * 32 + 32), 'data');
      wanted[i] = isNew ? 1 : 0;
      if (isNew) this.#newBlobs++;
      else this.#reusedBlobs++;
    }
    return wanted;
  }

  async #storePack(pack: FinishedPack, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#parts.repository.storage.save({ type: 'data', name: pack.id }, [bytes], signal);
    this.#addedBytes += bytes.length;
    await this.#pending.add(pack, signal);
  }

  #requireOpen(): void {
    if (this.#state !== 'open') throw new TarsError('internal', `The snapshot is ${this.#state} already`);
    throwIfAborted(this.#signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'disposed') return;
    const abandoned = this.#state !== 'published';
    this.#state = 'disposed';
    this.#stopFailing();
    try {
      await this.#pool[Symbol.asyncDispose]();
      if (abandoned && !this.#lockIsLost()) await this.#indexAbandoned();
    } finally {
      await this.#parts.lock[Symbol.asyncDispose]();
    }
  }

  #lockIsLost(): boolean {
    return this.#parts.lock.signal.reason instanceof RepositoryLockedError;
  }

  /** What an interrupted run stored is found by the next one, and not stored again. */
  async #indexAbandoned(): Promise<void> {
    try {
      await this.#pending.save(AbortSignal.timeout(abandonMs));
    } catch (error) {
      const reason = messageOf(error);
      this.#ctx.log.warn(
        `The data stored so far could not be indexed, so the next run stores it again: ${reason}`,
      );
    }
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- a body is asynchronous by its type
async function* once(bytes: Uint8Array): Bytes {
  // A copy: what is yielded is the sink's, and these bytes may be used again.
  yield new Uint8Array(bytes);
}
