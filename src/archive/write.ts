import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
// eslint-disable-next-line no-restricted-syntax -- the checksum lies there before the archive has its name
import { open, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { throwIfAborted } from '../model/abort.ts';
import { artifactsOf, isArtifactList } from '../model/artifact-list.ts';
import { CorruptionError, TarsError, toTarsError } from '../model/errors.ts';
import { encodeManifest, manifestPath, type Manifest, type ManifestArtifact } from '../model/manifest.ts';
import type { PublishedSnapshot } from '../model/snapshot.ts';
import type {
  ArtifactAttributes,
  Bytes,
  ChunkingHint,
  SpecialFile,
  WriteOptions,
} from '../ports/artifacts.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotDestination, SnapshotWriter } from '../ports/snapshot-store.ts';
import { closeBytes, exactBody, noBytes, oneChunk } from './bodies.ts';
import { checksumPath, writeChecksum } from './checksum-file.ts';
import { claimName, removePartials } from './claim.ts';
import { archiveSuffix, compressor, decompressor, type ArchiveCompression } from './compression.ts';
import { isThere } from '../disk/is-there.ts';
import { makeDirectories } from '../disk/make-directories.ts';
import { requireMounted } from '../disk/mounts.ts';
import { syncDirectory } from '../disk/sync.ts';
import { readLastManifest } from './last-member.ts';
import { EntryCount } from './limits.ts';
import type { MemberFile } from './member-file.ts';
import { parentsOf, requireArtifactPath } from './names.ts';
import { createScratch, type Scratch } from './scratch.ts';
import { archiveSummary } from './summary.ts';
import { encodeTarHeader, endOfArchiveBytes, paddingBytes, type TarHeader } from './tar-format.ts';
import { readTar } from './tar-read.ts';

export type { ArchiveCompression } from './compression.ts';

/** Where archives go, and how they are made. */
interface ArchiveDestinationOptions {
  readonly outputDir: string;
  readonly compression: ArchiveCompression;
  /** Where artifacts of unknown size are spooled before they enter the tar. */
  readonly scratchDir: string;
}

/**
 * Writes portable archives into a directory: `tars-backup-YYYYMMDD_HHMMSS.tar.gz` and its `.sha256`, both 0600.
 * The name is the UTC second at which the snapshot was begun (its first entry already lies under that name; the
 * cut's exact time is in the manifest), or the first later one that is free. The archive appears under its name
 * only when it is whole and durable and its checksum lies beside it; nothing existing is ever overwritten.
 *
 * An artifact whose body fails leaves no trace and the archive stays usable for the others. Running out of space
 * (TarsError `no-space`), or any other failure of the output itself, ends the archive for good.
 */
export function createArchiveDestination(options: ArchiveDestinationOptions): SnapshotDestination {
  return { location: options.outputDir, begin: (_label, ctx) => beginArchive(options, ctx) };
}

async function beginArchive(
  options: ArchiveDestinationOptions,
  ctx: OperationContext,
): Promise<SnapshotWriter> {
  const { outputDir, compression } = options;
  try {
    await requireMounted(outputDir);
    await createDurably(resolve(outputDir));
    await removePartials(outputDir, ctx);
  } catch (cause) {
    throw toTarsError(cause, `Cannot write archives to ${outputDir}`);
  }
  const { root, file, lock } = await claimName(outputDir, compression, ctx.clock.now());
  const partial = file.path;
  try {
    const scratch = await createScratch(options.scratchDir);
    return new ArchiveWriter({
      root,
      archive: join(outputDir, root + archiveSuffix[compression]),
      file,
      lock,
      scratch,
      compression,
    });
  } catch (error) {
    await file.close();
    await unlink(partial);
    await lock[Symbol.asyncDispose]();
    throw error;
  }
}

/** Creates the directory and all above it so that they survive a power cut, as what is published in it must. */
async function createDurably(directory: string): Promise<void> {
  for (const created of await makeDirectories(directory, 0o700)) await syncDirectory(dirname(created));
}

interface ArchiveParts {
  readonly root: string;
  readonly archive: string;
  readonly file: MemberFile;
  /** Tells others that the file still grows. */
  readonly lock: AsyncDisposable;
  readonly scratch: Scratch;
  readonly compression: ArchiveCompression;
}

interface Member {
  readonly startBytes: number;
  readonly endBytes: number;
}

interface WrittenFile extends ManifestArtifact {
  readonly attributes: ArtifactAttributes;
}

function manifestAttributes(mtimeNs: bigint): ArtifactAttributes {
  return { mode: 0o600, uid: 0, gid: 0, mtimeNs };
}

function unreadable(path: string): CorruptionError {
  return new CorruptionError(`${path} of the new archive cannot be read back, so it is not published`, {
    hint: 'Check the disk of the archives and the memory of this machine.',
  });
}

class ArchiveWriter implements SnapshotWriter {
  readonly encrypted = false;
  readonly #parts: ArchiveParts;
  readonly #written = new Map<string, WrittenFile>();
  readonly #paths = new Map<string, TarHeader['type']>();
  readonly #count = new EntryCount(
    (message) =>
      new TarsError('capture-failed', message, {
        hint: 'Back up into a repository: an archive cannot hold so much.',
      }),
  );
  /** Where lists of artifacts lie in the file. */
  readonly #lists = new Map<string, Member>();
  /** Entries enter the tar one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #pending = new Set<Promise<unknown>>();
  readonly #disposal = new AbortController();
  #state: 'open' | 'publishing' | 'published' | 'disposed' = 'open';
  #spools = 0;

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
    // It comes last, and there must be room for it.
    this.#count.add(manifestPath, {
      name: manifestPath,
      type: 'file',
      sizeBytes: 0,
      attributes: manifestAttributes(0n),
    });
  }

  write(path: string, body: Bytes, options: WriteOptions): Promise<ManifestArtifact> {
    return this.#track(async () => {
      this.#reserve(path, 'file');
      try {
        const signal = AbortSignal.any([options.signal, this.#disposal.signal]);
        const artifact =
          options.sizeBytes === undefined
            ? await this.#writeSpooled(path, body, options, signal)
            : await this.#writeSized(path, body, { ...options, sizeBytes: options.sizeBytes }, signal);
        this.#written.set(path, { ...artifact, attributes: options.attributes });
        return artifact;
      } catch (error) {
        this.#paths.delete(path);
        await closeBytes(body);
        throw toTarsError(error, `Cannot archive ${path}`);
      }
    });
  }

  reuse(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  directory(path: string, attributes: ArtifactAttributes): Promise<void> {
    return this.#bodiless({ name: path, type: 'directory', sizeBytes: 0, attributes });
  }

  symlink(path: string, target: string, attributes: ArtifactAttributes): Promise<void> {
    return this.#bodiless({ name: path, type: 'symlink', sizeBytes: 0, attributes, linkTarget: target });
  }

  link(path: string, existing: string): Promise<ManifestArtifact> {
    return this.#track(async () => {
      const file = this.#written.get(existing);
      if (file === undefined) {
        throw new TarsError('artifact-not-found', `${existing} is not a file of the archive`);
      }
      this.#reserve(path, 'link');
      const { attributes, sizeBytes, sha256 } = file;
      const linkTarget = `${this.#parts.root}/${existing}`;
      const header = { name: path, type: 'link', sizeBytes: 0, attributes, linkTarget } as const;
      await this.#append(header, noBytes(), 'small', this.#disposal.signal);
      this.#written.set(path, { ...file, path });
      return { path, sizeBytes, sha256 };
    });
  }

  async special(path: string, { type, device }: SpecialFile, attributes: ArtifactAttributes): Promise<void> {
    if (type === 'socket') return;
    const ofDevice = device === undefined ? {} : { device };
    await this.#bodiless({ name: path, type, sizeBytes: 0, attributes, ...ofDevice });
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  async publish(manifest: Manifest, ctx: OperationContext): Promise<PublishedSnapshot> {
    this.#requireOpen();
    await Promise.allSettled(this.#pending);
    this.#requireOpen();
    this.#state = 'publishing';
    this.#requireArtifacts(manifest);
    const { archive, file, root } = this.#parts;
    try {
      await this.#appendManifest(manifest, ctx.signal);
      const sha256 = await file.seal();
      await this.#readBack(manifest, ctx.signal);
      throwIfAborted(ctx.signal);
      await writeChecksum(archive, sha256);
      await this.#appear();
      await syncDirectory(dirname(archive));
    } catch (cause) {
      throw toTarsError(cause, `Cannot publish ${archive}`);
    }
    return {
      summary: archiveSummary(root, manifest),
      processedBytes: [...this.#written.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      addedBytes: file.sizeBytes,
      newBlobs: this.#written.size,
      reusedBlobs: 0,
    };
  }

  /** Gives the archive its name, or takes the checksum away again. */
  async #appear(): Promise<void> {
    const { archive, file } = this.#parts;
    try {
      if (await isThere(archive))
        throw new TarsError('storage-exists', `Another program has just created ${archive}`);
      await rename(file.path, archive);
      this.#state = 'published';
    } catch (cause) {
      await unlink(checksumPath(archive));
      throw cause;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'disposed') return;
    const published = this.#state === 'published';
    this.#state = 'disposed';
    this.#disposal.abort(new TarsError('interrupted', 'The archive was abandoned'));
    await Promise.allSettled(this.#pending);
    const { file, lock, scratch } = this.#parts;
    try {
      await file.close();
      if (!published) await rm(file.path, { force: true });
    } finally {
      await scratch[Symbol.asyncDispose]();
      await lock[Symbol.asyncDispose]();
    }
  }

  #requireOpen(): void {
    if (this.#state !== 'open') throw new TarsError('internal', `The archive is already ${this.#state}`);
  }

  async #track<T>(work: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    const promise = work();
    this.#pending.add(promise);
    try {
      return await promise;
    } finally {
      this.#pending.delete(promise);
    }
  }

  /** @throws TarsError `internal` for a path that is taken, or lies below something that is no directory */
  #reserve(path: string, type: TarHeader['type']): void {
    requireArtifactPath(path);
    const taken = path === manifestPath || this.#paths.has(path);
    const below = parentsOf(path).find((parent) => (this.#paths.get(parent) ?? 'directory') !== 'directory');
    if (taken) throw new TarsError('internal', `${path} is already in the archive`);
    if (below !== undefined)
      throw new TarsError('internal', `${path} would lie below ${below}, which is not a directory`);
    this.#paths.set(path, type);
  }

  #bodiless(header: TarHeader): Promise<void> {
    return this.#track(async () => {
      this.#reserve(header.name, header.type);
      await this.#append(header, noBytes(), 'small', this.#disposal.signal);
    });
  }

  async #writeSpooled(
    path: string,
    body: Bytes,
    options: WriteOptions,
    signal: AbortSignal,
  ): Promise<ManifestArtifact> {
    const { scratch } = this.#parts;
    const name = `spool-${++this.#spools}`;
    const sizeBytes = await scratch.spool(name, body, 0, signal);
    try {
      const spooled = createReadStream(scratch.path(name), { highWaterMark: 1 << 20 }) as Bytes;
      return await this.#writeSized(path, spooled, { ...options, sizeBytes }, signal);
    } finally {
      await scratch.remove(name);
    }
  }

  async #writeSized(
    path: string,
    body: Bytes,
    options: WriteOptions & { readonly sizeBytes: number },
    signal: AbortSignal,
  ): Promise<ManifestArtifact> {
    const { sizeBytes, attributes, chunking } = options;
    const hash = createHash('sha256');
    const counted = exactBody(path, body, sizeBytes, (chunk) => hash.update(chunk));
    await this.#append({ name: path, type: 'file', sizeBytes, attributes }, counted, chunking, signal);
    return { path, sizeBytes, sha256: hash.digest('hex') };
  }

  /** Appends one entry as one compressed member when it is its turn. */
  async #append(header: TarHeader, body: Bytes, chunking: ChunkingHint, signal: AbortSignal): Promise<void> {
    const { file, root, compression } = this.#parts;
    this.#count.add(header.name, header);
    const name = `${root}/${header.name}${header.type === 'directory' ? '/' : ''}`;
    const entry = async function* (): Bytes {
      yield encodeTarHeader({ ...header, name });
      yield* body;
      yield new Uint8Array(paddingBytes(header.sizeBytes));
    };
    const turn = this.#turn.then(async () => {
      throwIfAborted(signal);
      const startBytes = file.sizeBytes;
      await file.append(entry(), compressor(compression, chunking), signal);
      if (isArtifactList(header.name)) this.#lists.set(header.name, { startBytes, endBytes: file.sizeBytes });
    });
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  async #appendManifest(manifest: Manifest, signal: AbortSignal): Promise<void> {
    const bytes = encodeManifest(manifest);
    const { file, root, compression } = this.#parts;
    const header = encodeTarHeader({
      name: `${root}/${manifestPath}`,
      type: 'file',
      sizeBytes: bytes.length,
      attributes: manifestAttributes(BigInt(Date.parse(manifest.time)) * 1_000_000n),
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    const end = new Uint8Array(paddingBytes(bytes.length) + endOfArchiveBytes);
    const last = Buffer.concat([header, bytes, end]);
    await file.append(oneChunk(last), compressor(compression, 'small'), signal);
  }

  /** What describes the archive is read from the file, with the limits of a reader: it must be of use to one. */
  async #readBack({ components }: Manifest, signal: AbortSignal): Promise<void> {
    const { file, root, compression } = this.#parts;
    await using handle = await open(file.path);
    const manifest = await readLastManifest(handle, { root, compression }, signal);
    if (manifest === undefined) throw unreadable(manifestPath);
    const source = { open: (path: string) => this.#readMember(path) };
    for (const component of components) {
      for await (const _ of artifactsOf(component, source, signal)) throwIfAborted(signal);
    }
  }

  async *#readMember(path: string): Bytes {
    const { file, compression } = this.#parts;
    const member = this.#lists.get(path);
    if (member === undefined) throw unreadable(path);
    const stored = createReadStream(file.path, { start: member.startBytes, end: member.endBytes - 1 });
    const plain = decompressor(compression);
    stored.on('error', (error) => plain.destroy(error)).pipe(plain);
    try {
      for await (const { body } of readTar(plain as Bytes)) {
        yield* body;
        return;
      }
    } finally {
      stored.destroy();
      plain.destroy();
    }
  }

  /** A manifest that names what was never written would make an archive nobody can open. */
  #requireArtifacts(manifest: Manifest): void {
    const claimed = manifest.components.flatMap(({ artifacts, artifactList }) => [
      ...artifacts,
      ...(artifactList ? [artifactList] : []),
    ]);
    for (const { path, sizeBytes, sha256 } of claimed) {
      const written = this.#written.get(path);
      if (written?.sizeBytes !== sizeBytes || written.sha256 !== sha256) {
        throw new TarsError('internal', `The manifest describes ${path} differently from what was written`);
      }
    }
  }
}
