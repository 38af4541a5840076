import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasErrno, TarsError, toTarsError } from '../model/errors.ts';
import { encodeManifest, manifestPath, type Manifest, type ManifestArtifact } from '../model/manifest.ts';
import type { PublishedSnapshot } from '../model/snapshot.ts';
import type { ArtifactAttributes, Bytes, ChunkingHint, WriteOptions } from '../ports/artifacts.ts';
import type { OperationContext } from '../ports/context.ts';
import type { SnapshotDestination, SnapshotWriter } from '../ports/snapshot-store.ts';
import { checksumPath, fsyncDirectory, writeChecksum } from './checksum-file.ts';
import { archiveSuffix, compressor, type ArchiveCompression } from './compression.ts';
import { MemberFile } from './member-file.ts';
import { archiveRoot, parentsOf, requireArtifactPath } from './names.ts';
import { createScratch, type Scratch } from './scratch.ts';
import { archiveSummary } from './summary.ts';
import { encodeTarHeader, endOfArchiveBytes, paddingBytes, type TarHeader } from './tar-format.ts';

export type { ArchiveCompression } from './compression.ts';

export interface ArchiveDestinationOptions {
  readonly outputDir: string;
  readonly compression: ArchiveCompression;
  /** Where artifacts of unknown size are spooled before they enter the tar. */
  readonly scratchDir: string;
}

const partialSuffix = '.partial';

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
    await mkdir(outputDir, { recursive: true, mode: 0o700 });
    await warnOfPartials(outputDir, ctx);
  } catch (cause) {
    throw toTarsError(cause, `Cannot write archives to ${outputDir}`);
  }
  const { root, file } = await claimName(outputDir, compression, ctx.clock.now());
  const partial = file.path;
  try {
    const scratch = await createScratch(options.scratchDir);
    return new ArchiveWriter({
      root,
      archive: join(outputDir, root + archiveSuffix[compression]),
      file,
      scratch,
      compression,
    });
  } catch (error) {
    await file.close();
    await unlink(partial);
    throw error;
  }
}

/** The hidden file an archive grows in also reserves its name among running backups. */
async function claimName(
  outputDir: string,
  compression: ArchiveCompression,
  now: Date,
): Promise<{ root: string; file: MemberFile }> {
  for (let second = 0; second < 60; second++) {
    const root = archiveRoot(new Date(now.getTime() + second * 1000));
    const archive = join(outputDir, root + archiveSuffix[compression]);
    if ((await exists(archive)) || (await exists(checksumPath(archive)))) continue;
    try {
      return {
        root,
        file: await MemberFile.create(join(outputDir, `.${basename(archive)}${partialSuffix}`)),
      };
    } catch (error) {
      if (!(error instanceof TarsError) || error.code !== 'storage-exists') throw error;
    }
  }
  throw new TarsError('storage-exists', `No archive name of the next minute is free in ${outputDir}`, {
    hint: 'Check the system clock, or choose another output directory.',
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw toTarsError(error, `Cannot look at ${path}`);
  }
}

async function warnOfPartials(outputDir: string, ctx: OperationContext): Promise<void> {
  for (const name of await readdir(outputDir)) {
    if (!name.startsWith('.tars-backup-') || !name.endsWith(partialSuffix)) continue;
    ctx.log.warn(
      `${join(outputDir, name)} was left by an interrupted backup, or belongs to one that runs; delete it when none runs`,
    );
  }
}

interface ArchiveParts {
  readonly root: string;
  readonly archive: string;
  readonly file: MemberFile;
  readonly scratch: Scratch;
  readonly compression: ArchiveCompression;
}

class ArchiveWriter implements SnapshotWriter {
  readonly encrypted = false;
  readonly #parts: ArchiveParts;
  readonly #written = new Map<string, ManifestArtifact>();
  readonly #paths = new Map<string, TarHeader['type']>();
  /** Entries enter the tar one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #pending = new Set<Promise<unknown>>();
  readonly #disposal = new AbortController();
  #state: 'open' | 'publishing' | 'published' | 'disposed' = 'open';
  #spools = 0;

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
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
        this.#written.set(path, artifact);
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

  async publish(manifest: Manifest, ctx: OperationContext): Promise<PublishedSnapshot> {
    this.#requireOpen();
    await Promise.allSettled(this.#pending);
    this.#requireOpen();
    this.#state = 'publishing';
    this.#requireArtifacts(manifest);
    const { archive, file, root } = this.#parts;
    await this.#appendManifest(manifest, ctx.signal);
    const sha256 = await file.seal();
    ctx.signal.throwIfAborted();
    await writeChecksum(archive, sha256);
    try {
      if (await exists(archive)) throw new TarsError('storage-exists', `${archive} has appeared meanwhile`);
      await rename(file.path, archive);
    } catch (cause) {
      await unlink(checksumPath(archive));
      throw toTarsError(cause, `Cannot publish ${archive}`);
    }
    this.#state = 'published';
    await fsyncDirectory(dirname(archive));
    return {
      summary: archiveSummary(root, manifest),
      processedBytes: [...this.#written.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      addedBytes: file.sizeBytes,
      newBlobs: this.#written.size,
      reusedBlobs: 0,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'disposed') return;
    const published = this.#state === 'published';
    this.#state = 'disposed';
    this.#disposal.abort(new TarsError('interrupted', 'The archive was abandoned'));
    await Promise.allSettled(this.#pending);
    const { file, scratch } = this.#parts;
    await file.close();
    if (!published) await unlink(file.path);
    await scratch[Symbol.asyncDispose]();
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
    if (taken) throw new TarsError('internal', `${path} is in the archive already`);
    if (below !== undefined)
      throw new TarsError('internal', `${path} would lie below ${below}, not a directory`);
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
    const counted = async function* (): Bytes {
      let doneBytes = 0;
      for await (const chunk of body) {
        doneBytes += chunk.byteLength;
        if (doneBytes > sizeBytes) break;
        hash.update(chunk);
        yield chunk;
      }
      if (doneBytes !== sizeBytes) throw lengthError(path, sizeBytes);
    };
    await this.#append({ name: path, type: 'file', sizeBytes, attributes }, counted(), chunking, signal);
    return { path, sizeBytes, sha256: hash.digest('hex') };
  }

  /** Appends one entry as one compressed member when it is its turn. */
  async #append(header: TarHeader, body: Bytes, chunking: ChunkingHint, signal: AbortSignal): Promise<void> {
    const { file, root, compression } = this.#parts;
    const name = `${root}/${header.name}${header.type === 'directory' ? '/' : ''}`;
    const entry = async function* (): Bytes {
      yield encodeTarHeader({ ...header, name });
      yield* body;
      yield new Uint8Array(paddingBytes(header.sizeBytes));
    };
    const turn = this.#turn.then(() => {
      signal.throwIfAborted();
      return file.append(entry(), compressor(compression, chunking), signal);
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
      attributes: { mode: 0o600, uid: 0, gid: 0, mtimeNs: BigInt(Date.parse(manifest.time)) * 1_000_000n },
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    const end = new Uint8Array(paddingBytes(bytes.length) + endOfArchiveBytes);
    const last = Buffer.concat([header, bytes, end]);
    await file.append(oneChunk(last), compressor(compression, 'small'), signal);
  }

  /** A manifest that names what was never written would make an archive nobody can open. */
  #requireArtifacts(manifest: Manifest): void {
    for (const { path, sizeBytes, sha256 } of manifest.components.flatMap((part) => part.artifacts)) {
      const written = this.#written.get(path);
      if (written?.sizeBytes !== sizeBytes || written.sha256 !== sha256) {
        throw new TarsError('internal', `The manifest names ${path}, which was not written like that`);
      }
    }
  }
}

function lengthError(path: string, sizeBytes: number): TarsError {
  return new TarsError(
    'capture-failed',
    `${path} changed its length while it was read (expected ${sizeBytes} bytes)`,
    {
      hint: 'Run the backup again when nothing writes to it.',
    },
  );
}

/** Closes a body that may not have been started; harmless for one that has ended. */
async function closeBytes(body: Bytes): Promise<void> {
  await body[Symbol.asyncIterator]().return?.();
}

// eslint-disable-next-line @typescript-eslint/require-await -- no bytes to wait for
async function* noBytes(): Bytes {
  yield* [];
}

// eslint-disable-next-line @typescript-eslint/require-await -- the bytes are there
async function* oneChunk(chunk: Uint8Array): Bytes {
  yield chunk;
}
