import { createWriteStream } from 'node:fs';
import { lstat, mkdir, readlink, rm, symlink } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { throwIfAborted } from '../../../model/abort.ts';
import { CleanupStack } from '../../../model/cleanup-stack.ts';
import { messageOf, TarsError } from '../../../model/errors.ts';
import { isThere } from '../../../disk/is-there.ts';
import { openScratch, type ScratchDirectory } from '../../../disk/run-scratch.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type {
  OpenVolume,
  PreparedHold,
  StoreHold,
  StoreVolume,
  VolumeEntry,
  VolumeListing,
} from '../../../ports/volume.ts';
import { requireSpace } from '../../paths/file-bytes.ts';
import { sqliteFileName, transientFileNames } from '../direct/tables.ts';
import type { CopyOutcome, PersistCopy } from '../physical/capture.ts';
import { isForeign, type EntryStats, type ListedEntry } from '../physical/directory-listing.ts';

/** Without it the copied file is as a crash would have left it. */
const journalName = `${sqliteFileName}-journal`;
/** A file changed less than this before it was listed may have changed again with the same time stamp. */
const timestampMarginNs = 2_000_000_000n;
/** A freeze in the middle of a save gives a torn copy. After this many torn copies, Chroma is stopped instead. */
const freezesMax = 2;

/**
 * A copy of a persist directory that no lock of ours reaches (DESIGN.md section 8): a warm copy first, then Chroma's
 * container is frozen and what changed since is copied again. A frozen server may be in the middle of a save, so the
 * copy has to be read in full afterwards, and be taken again when it is torn: at last of the stopped server.
 */
export class FrozenCopy implements PersistCopy {
  readonly source: string;
  readonly directory: string;
  readonly #scratch: ScratchDirectory;
  readonly #volume: OpenVolume;
  readonly #hold: StoreHold;
  #prepared: PreparedHold;
  #attempts = 1;
  #way: 'freeze' | 'stop' = 'freeze';
  /** What the copy holds, by the entries it was made from; undefined: not to be trusted. */
  readonly #copied = new Map<string, VolumeEntry | undefined>();
  #listing: VolumeListing | undefined;
  #entries: ReadonlyMap<string, ListedEntry> = new Map();
  #locked = false;
  #blockedMs = 0;

  /**
   * Gets ready to freeze and takes the warm copy.
   * @throws TarsError `capture-failed` without `chroma.sqlite3`; `no-space`
   */
  static async prepare(
    { volume, hold }: { readonly volume: StoreVolume; readonly hold: StoreHold },
    scratchDir: string,
    ctx: OperationContext,
  ): Promise<FrozenCopy> {
    await using stack = new CleanupStack();
    const open = stack.use(await volume.open('read', ctx));
    const listing: VolumeListing | undefined = await open.list(ctx.signal);
    requireSqlite(listing, volume.label);
    const scratch = stack.use(await openScratch(scratchDir, 'chroma'));
    await requireSpace(scratch.path, totalBytes(listing), `a copy of ${volume.label}`);
    const prepared = stack.use(await hold.prepare('freeze', ctx));
    const copy = new FrozenCopy(volume.label, scratch, open, hold, prepared);
    await copy.#copyWarm(listing, ctx);
    stack.move();
    return copy;
  }

  private constructor(
    source: string,
    scratch: ScratchDirectory,
    volume: OpenVolume,
    hold: StoreHold,
    prepared: PreparedHold,
  ) {
    this.source = source;
    this.#scratch = scratch;
    this.directory = scratch.path;
    this.#volume = volume;
    this.#hold = hold;
    this.#prepared = prepared;
  }

  get entries(): ReadonlyMap<string, ListedEntry> {
    return this.#entries;
  }

  get writesBlockedMs(): number {
    return this.#blockedMs;
  }

  readonly locksFile = false;

  get method(): string {
    return this.#way === 'freeze' ? 'physical-frozen' : 'physical-stopped';
  }

  root(): Promise<EntryStats> {
    if (this.#listing === undefined) throw new TarsError('internal', `${this.source} was not copied`);
    return Promise.resolve(statsOf(this.#listing.root));
  }

  /** Freezes Chroma, within milliseconds; at last stops it. */
  async lock(_timeoutMs: number, ctx: OperationContext): Promise<void> {
    if (this.#attempts > 1) {
      this.#way = this.#attempts > freezesMax ? 'stop' : 'freeze';
      if (this.#way === 'stop') {
        ctx.log.warn(
          `Chroma is stopped for a copy of ${this.source}, because no copy of the frozen server was complete`,
        );
        // The last attempt relies on nothing that went before.
        for (const path of this.#copied.keys()) this.#copied.set(path, undefined);
      }
      await this.#prepared[Symbol.asyncDispose]();
      this.#prepared = await this.#hold.prepare(this.#way, ctx);
    }
    this.#attempts++;
    this.#locked = true;
    await this.#prepared.begin(ctx.signal);
    // Whoever gave up waiting for us will not call finish().
    if (ctx.signal.aborted) await this.#release();
    throwIfAborted(ctx.signal);
  }

  async finish(ctx: OperationContext): Promise<CopyOutcome> {
    if (!this.#locked) return 'lock-lost';
    let listing: VolumeListing;
    let held: boolean;
    try {
      listing = await this.#copyHeld(ctx);
    } finally {
      held = await this.#release();
    }
    if (!held) return 'lock-lost';
    this.#listing = listing;
    this.#entries = await this.#describe(listing);
    return 'copied';
  }

  async #release(): Promise<boolean> {
    this.#locked = false;
    try {
      return await this.#prepared.end();
    } finally {
      this.#blockedMs += this.#prepared.heldMs;
    }
  }

  /** What changes while it is copied is copied again in the end. */
  async #copyWarm(listing: VolumeListing, ctx: OperationContext): Promise<void> {
    for (const entry of ownEntries(listing)) {
      const { mtimeNs, ctimeNs } = entry.identity;
      const provenBeforeNs = listing.takenAtNs - timestampMarginNs;
      const settled = mtimeNs < provenBeforeNs && ctimeNs < provenBeforeNs;
      const copied = await this.#copyEntry(entry, ctx).catch((error: unknown) => {
        throwIfAborted(ctx.signal);
        ctx.log.debug(`${entry.path} is copied later: ${messageOf(error)}`);
        return false;
      });
      this.#copied.set(entry.path, copied && settled && listing.fineTimes ? entry : undefined);
    }
  }

  async #copyHeld(ctx: OperationContext): Promise<VolumeListing> {
    const listing = await this.#volume.list(ctx.signal);
    requireSqlite(listing, this.source);
    const wanted = new Map(ownEntries(listing).map((entry) => [entry.path, entry]));
    const journal = listing.entries.get(journalName);
    for (const path of [...this.#copied.keys(), ...transientFileNames].filter((name) => !wanted.has(name))) {
      await rm(join(this.directory, path), { recursive: true, force: true });
      this.#copied.delete(path);
    }
    for (const entry of [...wanted.values(), ...(journal === undefined ? [] : [journal])]) {
      const copied = this.#copied.get(entry.path);
      if (copied !== undefined && sameEntry(copied, entry)) continue;
      if (!(await this.#copyEntry(entry, ctx)))
        throw new TarsError('capture-failed', `${entry.path} vanished from ${this.source} while it was held`);
      this.#copied.set(entry.path, listing.fineTimes ? entry : undefined);
    }
    return listing;
  }

  /** @returns false when it is not there any more */
  async #copyEntry({ path, type }: VolumeEntry, { signal }: OperationContext): Promise<boolean> {
    const target = join(this.directory, path);
    if (type === 'directory') {
      await mkdir(target, { recursive: true, mode: 0o700 });
      return true;
    }
    await rm(target, { recursive: true, force: true });
    const file = await this.#volume.read(path, signal);
    if (file === undefined) return false;
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    if (type === 'symlink') await symlink(file.linkTarget ?? '', target);
    else await pipeline(file.body, createWriteStream(target, { mode: 0o600 }), { signal });
    return true;
  }

  /** Rolls back the transaction that the copy was taken in the middle of. */
  async #describe(listing: VolumeListing): Promise<ReadonlyMap<string, ListedEntry>> {
    const rolledBack = await rollBack(this.directory);
    // The copy of what was rolled back was read in this state only.
    if (rolledBack) this.#copied.delete(sqliteFileName);
    const entries = new Map<string, ListedEntry>();
    for (const entry of ownEntries(listing)) {
      const { path, type } = entry;
      const local = await lstat(join(this.directory, path), { bigint: true });
      const linkTarget = type === 'symlink' ? await readlink(join(this.directory, path)) : undefined;
      const telling = listing.fineTimes && !(rolledBack && path === sqliteFileName);
      const stats = {
        ...statsOf(entry),
        size: local.size,
        // Another one each time, so that no later capture takes the file for unchanged.
        ...(telling ? {} : { ctimeNs: listing.takenAtNs }),
      };
      entries.set(path, { path, stats, ...(linkTarget === undefined ? {} : { linkTarget }) });
    }
    return entries;
  }

  /** Resumes Chroma if it is still held, and removes the copy. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#prepared[Symbol.asyncDispose]();
    } finally {
      await this.#volume[Symbol.asyncDispose]();
      await this.#scratch[Symbol.asyncDispose]();
    }
  }
}

/** @throws TarsError `capture-failed` */
export function requireSqlite(
  listing: VolumeListing | undefined,
  label: string,
): asserts listing is VolumeListing {
  if (listing?.entries.get(sqliteFileName)?.type === 'file') return;
  throw new TarsError('capture-failed', `There is no ${sqliteFileName} in ${label}`, {
    hint:
      'Mount the volume where this version of Chroma keeps its data: /data since 1.0, /chroma/chroma before. ' +
      'Then start Chroma, check that its collections are there, and run the backup again.',
  });
}

function ownEntries({ entries }: VolumeListing): VolumeEntry[] {
  return [...entries.values()].filter(
    ({ path, type }) => type !== 'other' && !isForeign(path.split('/')[0] ?? ''),
  );
}

/** The bytes of all regular files that are Chroma's own. */
export function totalBytes(listing: VolumeListing): number {
  return ownEntries(listing)
    .filter(({ type }) => type === 'file')
    .reduce((sum, { identity }) => sum + identity.sizeBytes, 0);
}

function sameEntry(a: VolumeEntry, b: VolumeEntry): boolean {
  return (
    a.type === b.type &&
    a.identity.sizeBytes === b.identity.sizeBytes &&
    a.identity.mtimeNs === b.identity.mtimeNs &&
    a.identity.ctimeNs === b.identity.ctimeNs &&
    a.identity.inode === b.identity.inode
  );
}

function statsOf({ type, attributes, identity }: VolumeEntry): EntryStats {
  return {
    mode: BigInt(attributes.mode),
    uid: BigInt(attributes.uid),
    gid: BigInt(attributes.gid),
    size: BigInt(identity.sizeBytes),
    mtimeNs: identity.mtimeNs,
    ctimeNs: identity.ctimeNs,
    ino: identity.inode,
    isFile: () => type === 'file',
    isDirectory: () => type === 'directory',
  };
}

/** Opening the copied file for writing carries out what its journal says. @returns whether there was one */
async function rollBack(directory: string): Promise<boolean> {
  const path = join(directory, journalName);
  if (!(await isThere(path))) return false;
  try {
    const database = new DatabaseSync(join(directory, sqliteFileName));
    try {
      database.exec('BEGIN IMMEDIATE; ROLLBACK');
    } finally {
      database.close();
    }
  } catch {
    // What is wrong with it is found when all of it is read.
  }
  for (const name of transientFileNames) await rm(join(directory, name), { force: true });
  return true;
}
