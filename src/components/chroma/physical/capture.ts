import { join } from 'node:path';
import { TarsError } from '../../../model/errors.ts';
import type { Finding } from '../../../model/finding.ts';
import type { ArtifactSink, ChunkingHint } from '../../../ports/artifacts.ts';
import type { CaptureReport, PreparedCapture } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { attributesOf, fileBytes, identityOf } from '../../paths/file-bytes.ts';
import { inspectDirectory, type Inspection } from '../direct/inspect.ts';
import { placedCollections, type ChromaFacts } from '../facts.ts';
import { sqliteFileName } from '../direct/tables.ts';
import { sameFile, sameListing, type EntryStats, type ListedEntry } from './directory-listing.ts';

/** Inside the writer pause: longer than any transaction Chroma makes of its own accord. */
const markTimeoutMs = 3000;
const attemptsMax = 3;
/** Of damaged collections; the rest is counted. */
const namedMax = 20;

/** Where the copied persist directory lies in the snapshot. */
export function persistPrefix(component: string): string {
  return `${component}/persist`;
}

/** Why a copy cannot be used. */
export type CopyOutcome = 'copied' | 'unstable' | 'lock-lost';

/** A copy of a persist directory as it was at one moment, however that is brought about. */
export interface PersistCopy extends AsyncDisposable {
  /** For a person. */
  readonly source: string;
  /** Holds the copy. Removed with the object. */
  readonly directory: string;
  /** What the copy holds, as it was in the source at that moment. */
  readonly entries: ReadonlyMap<string, ListedEntry>;
  /** For how long Chroma could not write, over all attempts. */
  readonly writesBlockedMs: number;
  /** How, for the manifest. */
  readonly method: string;
  /** {@link lock} takes a lock on a file that Chroma's own process may hold. */
  readonly locksFile: boolean;
  /** Of the source itself. */
  root(): Promise<Pick<EntryStats, 'mode' | 'uid' | 'gid' | 'mtimeNs'>>;
  /**
   * Keeps Chroma from writing: the copy will show this moment.
   * @throws TarsError `capture-failed` when it cannot be kept from it within `timeoutMs`
   */
  lock(timeoutMs: number, ctx: OperationContext): Promise<void>;
  /** Brings the copy to the locked moment and lets Chroma write again, on every path. */
  finish(ctx: OperationContext): Promise<CopyOutcome>;
}

/** A safe copy that has been read in full and found whole. */
interface InspectedCopy {
  readonly inspection: Inspection;
  /** True when the first attempt, the one inside the pause, succeeded. */
  readonly first: boolean;
  /** Collections that are damaged in the live directory itself, and left out of the inspection. */
  readonly damaged: readonly Finding[];
}

const outcomeReasons: Readonly<Record<Exclude<CopyOutcome, 'copied'>, string>> = {
  unstable: 'its vector files kept changing under the lock',
  'lock-lost': 'its lock was lost while copying',
};

/**
 * Finishes a locked copy and reads all of it. A copy that is not whole is discarded and taken again under a new
 * lock, at a moment of its own.
 * @throws TarsError `capture-failed` with the last reason
 */
export async function inspectedCopy(
  copy: PersistCopy,
  name: string,
  ctx: OperationContext,
): Promise<InspectedCopy> {
  let reason = '';
  let found: Inspection | undefined;
  let damaged: ReadonlyMap<string, ListedEntry> | undefined;
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    if (attempt > 1) {
      ctx.log.warn(`${name}: the copy is discarded and taken again: ${reason}`);
      await copy.lock(markTimeoutMs, ctx);
    }
    const outcome = await copy.finish(ctx);
    if (outcome !== 'copied') {
      reason = outcomeReasons[outcome];
      continue;
    }
    // A frozen server may be in the middle of a save, which no time stamp tells; a locked one is not.
    if (copy.locksFile && damaged !== undefined && isUnchanged(damaged, copy.entries)) {
      return withoutDamaged(found, name) ?? refuse(copy.source, attempt, reason);
    }
    damaged = copy.entries;
    found = undefined;
    const inspection = await inspected(copy.directory, name, ctx);
    if (inspection instanceof TarsError) {
      reason = inspection.message;
      continue;
    }
    const errors = inspection.problems.filter(({ severity }) => severity === 'error');
    if (errors.length === 0) return { inspection, first: attempt === 1, damaged: [] };
    found = inspection;
    reason = describe(errors);
  }
  return withoutDamaged(found, name) ?? refuse(copy.source, attemptsMax, reason);
}

/**
 * The rest of a directory in which single collections are damaged: they cost themselves.
 * @returns undefined where the tables are damaged, or nothing else is left
 */
function withoutDamaged(inspection: Inspection | undefined, name: string): InspectedCopy | undefined {
  const damaged = (inspection?.problems ?? []).filter(({ severity }) => severity === 'error');
  if (inspection === undefined || damaged.some(({ subject }) => subject === name)) return undefined;
  const lost = new Set(damaged.map(({ subject }) => subject));
  const tenants = inspection.tenants.map((tenant) => ({
    name: tenant.name,
    databases: tenant.databases.map((database) => ({
      name: database.name,
      collections: database.collections.filter(
        (collection) => !lost.has(`${name}/${tenant.name}/${database.name}/${collection.name}`),
      ),
    })),
  }));
  if (placedCollections({ tenants }).next().done === true) return undefined;
  return { inspection: { ...inspection, tenants }, first: false, damaged };
}

/** The same files would be read again and found as they were. */
function isUnchanged(
  before: ReadonlyMap<string, ListedEntry>,
  after: ReadonlyMap<string, ListedEntry>,
): boolean {
  const [was, is] = [before.get(sqliteFileName), after.get(sqliteFileName)];
  return was !== undefined && is !== undefined && sameFile(was, is) && sameListing(before, after);
}

/** @throws TarsError `capture-failed` */
function refuse(source: string, attempts: number, reason: string): never {
  throw new TarsError('capture-failed', `No complete copy of ${source} in ${attempts} attempts: ${reason}`, {
    hint:
      'If the reason stays the same, the live directory itself is damaged. Stop Chroma first, then copy the directory to a safe place ' +
      'and compare it with an earlier snapshot. Or remove path from tars.yaml, so that tars captures over HTTP what the server can still read.',
  });
}

/** A copy too torn to be read at all is one that is not whole, too. */
async function inspected(
  directory: string,
  name: string,
  ctx: OperationContext,
): Promise<Inspection | TarsError> {
  try {
    return await inspectDirectory(directory, name, ctx.signal);
  } catch (error) {
    if (error instanceof TarsError && (error.code === 'corruption' || error.code === 'capture-failed'))
      return error;
    throw error;
  }
}

function describe(errors: readonly Finding[]): string {
  const shown = errors.slice(0, 3).map(({ message }) => message);
  return errors.length > 3 ? `${shown.join('; ')}; and ${errors.length - 3} more` : shown.join('; ');
}

const incompleteOf = (damaged: readonly Finding[]): Pick<CaptureReport, 'incomplete'> =>
  damaged.length === 0
    ? {}
    : {
        incomplete: {
          count: damaged.length,
          named: damaged
            .slice(0, namedMax)
            .map(({ subject, message }) => ({ path: subject, reason: message })),
        },
      };

/** The physical capture of a persist directory; see {@link SafeCopy}. */
export class PhysicalCapture implements PreparedCapture {
  readonly #name: string;
  readonly #serverVersion: string | null;
  readonly #copy: PersistCopy;
  readonly #ctx: OperationContext;
  #inspected: InspectedCopy | undefined;
  #held = false;

  constructor(name: string, serverVersion: string | null, copy: PersistCopy, ctx: OperationContext) {
    this.#name = name;
    this.#serverVersion = serverVersion;
    this.#copy = copy;
    this.#ctx = ctx;
  }

  /** Known for certain once settled: a copy that had to be taken again has a moment of its own. */
  get pointInTime(): 'cut' | 'own' {
    return this.#inspected?.first === false ? 'own' : 'cut';
  }

  /** A frozen container needs none: it is not a lock that its own processes may hold. */
  async holdWrites(signal: AbortSignal): Promise<void> {
    if (!this.#copy.locksFile) return;
    await this.#copy.lock(markTimeoutMs, { ...this.#ctx, signal });
    this.#held = true;
  }

  async mark(signal: AbortSignal): Promise<void> {
    if (!this.#held) await this.#copy.lock(markTimeoutMs, { ...this.#ctx, signal });
  }

  async settle(ctx: OperationContext): Promise<void> {
    this.#inspected = await inspectedCopy(this.#copy, this.#name, ctx);
  }

  async capture(sink: ArtifactSink, ctx: OperationContext): Promise<CaptureReport> {
    if (this.#inspected === undefined)
      throw new TarsError('internal', 'capture() was called before settle()');
    const { inspection } = this.#inspected;
    for (const { message } of inspection.problems) ctx.log.warn(message);
    await this.#stream(sink, ctx);
    const facts: ChromaFacts = {
      method: 'physical',
      serverVersion: this.#serverVersion,
      migrations: [...inspection.migrations],
      tenants: inspection.tenants,
    };
    return {
      ...incompleteOf(this.#inspected.damaged),
      serverVersion: this.#serverVersion ?? undefined,
      method: this.#copy.method,
      writesBlockedMs: this.#copy.writesBlockedMs,
      facts: { ...facts },
    };
  }

  async #stream(sink: ArtifactSink, ctx: OperationContext): Promise<void> {
    await sink.directory(persistPrefix(this.#name), attributesOf(await this.#copy.root()));
    for (const entry of this.#copy.entries.values()) {
      const path = `${persistPrefix(this.#name)}/${entry.path}`;
      const attributes = attributesOf(entry.stats);
      if (entry.stats.isDirectory()) await sink.directory(path, attributes);
      else if (entry.linkTarget !== undefined) await sink.symlink(path, entry.linkTarget, attributes);
      else await this.#streamFile(path, entry, sink, ctx);
    }
  }

  async #streamFile(
    path: string,
    entry: ListedEntry,
    sink: ArtifactSink,
    ctx: OperationContext,
  ): Promise<void> {
    const identity = identityOf(entry.stats);
    if ((await sink.reuse(path, identity)) !== undefined) return;
    await sink.write(path, fileBytes(join(this.#copy.directory, entry.path), ctx.signal), {
      attributes: attributesOf(entry.stats),
      chunking: chunkingOf(entry.path),
      sizeBytes: identity.sizeBytes,
      identity,
      signal: ctx.signal,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#copy[Symbol.asyncDispose]();
  }
}

/** The id map's content shifts as ids come and go; everything else changes in place. */
function chunkingOf(path: string): ChunkingHint {
  return path.endsWith('.pickle') ? 'stream' : 'pages';
}
