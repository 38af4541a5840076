import { join } from 'node:path';
import { throwIfAborted } from '../../model/abort.ts';
import {
  messageOf,
  RestoreRefusedError,
  ServiceUnavailableError,
  TarsError,
  toTarsError,
} from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ComponentManifest } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan, SwapRecord } from '../../model/restore-plan.ts';
import { counted } from '../../model/plural.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type {
  Component,
  ComponentProbe,
  Generation,
  Leftover,
  PreparedCapture,
  Staged,
} from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ServerProof } from '../../ports/server-proof.ts';
import type { RemoteDirectory } from '../../ports/store-place.ts';
import type { VolumeListing } from '../../ports/volume.ts';
import { leftoversAt } from '../paths/leftovers.ts';
import { removeStagedBeside } from '../paths/path-swap.ts';
import { tablesLost } from './direct/inspect.ts';
import { countIndexesWithoutTables, countStored, hasHotJournal, openTablesForPlan } from './direct/tables.ts';
import { chromaFactsOf, compareFacts, problemsAgainst } from './facts.ts';
import { detectServer } from './http/detect.ts';
import { verifyLive } from './http/verify.ts';
import { defaultTenants, prepareLogicalCapture } from './http/capture.ts';
import { planLogicalRestore, stageLogicalRestore, type LogicalRestoreDetails } from './http/stage.ts';
import { logicalGeneration, removeStagedCollections } from './http/swap.ts';
import type { ChromaEndpoint } from './http/transport.ts';
import { inspectedCopy, PhysicalCapture } from './physical/capture.ts';
import { listDirectory, totalBytes } from './physical/directory-listing.ts';
import { FrozenCopy, requireSqlite, totalBytes as volumeBytes } from './physical/frozen-copy.ts';
import { planPhysicalRestore, type PhysicalPlace, type PhysicalRestoreDetails } from './physical/plan.ts';
import { stagePhysicalRestore } from './physical/stage.ts';
import { requireLockable, requirePersistDirectory, SafeCopy } from './physical/safe-copy.ts';
import { physicalGeneration } from './physical/swap.ts';

const kind = 'chroma';
const verifyLockTimeoutMs = 5000;
const lostHint = {
  hint: 'Stop Chroma and restore the directory from a snapshot. If it is meant to be new, remove what is in it first.',
};

/** A Chroma of the stack, by its files, its API or both. */
export interface ChromaOptions {
  readonly name: string;
  readonly service: string | undefined;
  /** The server, when it can be reached. */
  readonly url: string | undefined;
  /** Sent with every request, such as `Authorization`. */
  readonly headers: Readonly<Record<string, string>>;
  /** Asked before the server is. */
  readonly proof?: ServerProof;
  /** The persist directory, when it can be reached from here: captures are physical then. */
  readonly path: string | undefined;
  /** The persist directory is mounted elsewhere, such as in a container, and must not be renamed itself. */
  readonly keepDirectory?: boolean;
  /** The persist directory where no path leads to it. */
  readonly remote?: RemoteDirectory;
  /** For the copy of the persist directory; as large as that. */
  readonly scratchDir: string;
  /** Captured over HTTP, which lists no tenants. `default_tenant` by default. */
  readonly tenants?: readonly string[];
}

/**
 * ChromaDB. With a `path` it is captured physically: a safe copy of the hot persist directory, at the cut. With a
 * `url` alone it is captured logically over HTTP, at a moment of its own. Each is restored the way it was captured.
 */
export function createChromaComponent(options: ChromaOptions): Component {
  return new ChromaComponent(options);
}

class ChromaComponent implements Component {
  readonly name: string;
  readonly kind = kind;
  readonly service: string | undefined;
  readonly #options: ChromaOptions;

  constructor(options: ChromaOptions) {
    this.name = options.name;
    this.service = options.service;
    this.#options = options;
  }

  async probe(ctx: OperationContext): Promise<ComponentProbe> {
    const { path, remote } = this.#options;
    if (path !== undefined) return this.#probeDirectory(path, ctx);
    if (remote === undefined) return this.#probeServer(ctx);
    await using volume = await remote.volume.open('read', ctx);
    const listing: VolumeListing | undefined = await volume.list(ctx.signal);
    requireSqlite(listing, remote.volume.label);
    const { warnings: _, ...server } = await this.#probeServer(ctx);
    const warning = `${this.name} is frozen for moments while ${remote.volume.label} is copied: this user cannot lock files there`;
    return { ...server, sizeBytes: volumeBytes(listing), warnings: [warning] };
  }

  async #probeDirectory(path: string, ctx: OperationContext): Promise<ComponentProbe> {
    await requirePersistDirectory(path);
    const sizeBytes = totalBytes(await listDirectory(path));
    await requireLockable(path);
    const serverVersion = (await this.#serverVersion(ctx)) ?? undefined;
    const warnings = hasHotJournal(path)
      ? [
          `${this.name}: Chroma was killed while it wrote to ${path}; the backup lets SQLite roll back what was not committed, as Chroma's next start does`,
        ]
      : [];
    return { serverVersion, sizeBytes, summary: this.#summaryOf(path), warnings };
  }

  #summaryOf(path: string): string {
    try {
      const database = openTablesForPlan(path);
      try {
        const indexes = countIndexesWithoutTables(path, database);
        if (indexes > 0) throw new TarsError('capture-failed', `${path}: ${tablesLost(indexes)}`, lostHint);
        const { collections, records } = countStored(database);
        return `${counted(collections, 'collection')}, ${counted(records, 'record')}`;
      } finally {
        database.close();
      }
    } catch (error) {
      if (hasHotJournal(path)) return 'an unknown number of collections';
      throw toTarsError(error, `Cannot read the Chroma directory ${path}`);
    }
  }

  async #probeServer(ctx: OperationContext): Promise<ComponentProbe> {
    const { client, version } = await detectServer(this.#endpoint(), ctx);
    let collections = 0;
    for (const tenant of this.#options.tenants ?? defaultTenants) {
      for (const database of await client.listDatabases(tenant, ctx)) {
        collections += (await client.listCollections({ tenant, database }, ctx)).length;
      }
    }
    const warnings = [
      `${this.name}: without path in tars.yaml the capture goes over HTTP and has a moment of its own`,
      ...(this.#options.tenants === undefined
        ? [
            `${this.name}: Chroma does not list its tenants over HTTP, so only ${defaultTenants.join(', ')} is captured; name others under tenants in tars.yaml`,
          ]
        : []),
    ];
    return { serverVersion: version, sizeBytes: 0, summary: counted(collections, 'collection'), warnings };
  }

  leftovers(): Promise<readonly Leftover[]> {
    const { path } = this.#options;
    return leftoversAt(path === undefined ? [] : [path]);
  }

  async ready(ctx: OperationContext): Promise<void> {
    const { url, path } = this.#options;
    if (url !== undefined) {
      await detectServer(this.#endpoint(), ctx);
      return;
    }
    if (path === undefined) throw this.#unreachable();
    try {
      await requirePersistDirectory(path);
    } catch (cause) {
      throw new ServiceUnavailableError(`Chroma has not created ${join(path, 'chroma.sqlite3')} yet`, {
        cause,
      });
    }
  }

  async prepare(ctx: OperationContext): Promise<PreparedCapture> {
    const { path, remote, scratchDir, tenants } = this.#options;
    if (path === undefined && remote !== undefined) {
      const version = await this.#serverVersion(ctx);
      const frozen = await FrozenCopy.prepare(remote, scratchDir, ctx);
      return new PhysicalCapture(this.name, version, frozen, ctx);
    }
    if (path === undefined) {
      const named = tenants === undefined ? {} : { tenants };
      return prepareLogicalCapture({ ...this.#endpoint(), name: this.name, ...named }, ctx);
    }
    const serverVersion = await this.#serverVersion(ctx);
    const copy = await SafeCopy.prepare(path, scratchDir, ctx);
    return new PhysicalCapture(this.name, serverVersion, copy, ctx);
  }

  async planRestore(
    from: ComponentManifest,
    restoreOptions: RestoreOptions,
    ctx: OperationContext,
    source: ArtifactSource,
  ): Promise<RestorePlan> {
    const facts = chromaFactsOf(from);
    if (facts.method === 'physical') {
      return planPhysicalRestore(from, facts, this.#place(), restoreOptions, source, ctx.signal);
    }
    const endpoint = { ...this.#endpoint(), ...this.#identity() };
    return planLogicalRestore(from, endpoint, restoreOptions, ctx, source);
  }

  async stage(plan: RestorePlan, source: ArtifactSource, ctx: OperationContext): Promise<Staged> {
    const { method } = plan.details as PhysicalRestoreDetails | LogicalRestoreDetails;
    if (method === 'physical') {
      return stagePhysicalRestore(plan as RestorePlan<PhysicalRestoreDetails>, this.#place(), source, ctx);
    }
    const endpoint = { ...this.#endpoint(), ...this.#identity() };
    return stageLogicalRestore(plan as RestorePlan<LogicalRestoreDetails>, endpoint, source, ctx);
  }

  async removeStaged(restoreId: string, ctx: OperationContext): Promise<void> {
    const { path, url, tenants } = this.#options;
    if (path !== undefined) await removeStagedBeside(path, restoreId);
    if (url === undefined || path !== undefined) return;
    const { client } = await detectServer(this.#endpoint(), ctx);
    await removeStagedCollections(client, tenants ?? defaultTenants, restoreId, ctx);
  }

  generation(record: SwapRecord): Generation {
    return record.details['method'] === 'logical'
      ? logicalGeneration(record, this.#endpoint())
      : physicalGeneration(record);
  }

  async verify(from: ComponentManifest, ctx: OperationContext): Promise<readonly Finding[]> {
    const facts = chromaFactsOf(from);
    const { url, path, scratchDir } = this.#options;
    if (url !== undefined) return verifyLive({ ...this.#endpoint(), name: this.name }, facts, ctx);
    if (path === undefined) throw this.#unreachable();
    await using copy = await SafeCopy.prepare(path, scratchDir, ctx);
    await copy.lock(verifyLockTimeoutMs, ctx);
    const { inspection } = await inspectedCopy(copy, this.name, ctx);
    return [
      ...problemsAgainst(this.name, facts, inspection.problems),
      ...compareFacts(this.name, facts, inspection, 'tolerant'),
    ];
  }

  /** What the server says, or `null`: the physical capture does without it. */
  async #serverVersion(ctx: OperationContext): Promise<string | null> {
    if (this.#options.url === undefined) return null;
    try {
      return (await detectServer(this.#endpoint(), ctx)).version;
    } catch (error) {
      throwIfAborted(ctx.signal);
      const detail = messageOf(error);
      ctx.log.debug(`${this.name}: the server was not asked for its version: ${detail}`);
      return null;
    }
  }

  #identity(): { readonly name: string; readonly kind: string; readonly service: string | undefined } {
    return { name: this.name, kind, service: this.service };
  }

  #endpoint(): ChromaEndpoint {
    const { url, headers, proof } = this.#options;
    if (url === undefined) throw this.#unreachable();
    return { url, headers, ...(proof === undefined ? {} : { proof }) };
  }

  #place(): PhysicalPlace {
    const { path } = this.#options;
    if (path !== undefined)
      return { ...this.#identity(), path, keepDirectory: this.#options.keepDirectory ?? false };
    throw new RestoreRefusedError(
      `The snapshot of ${this.name} is physical, and its persist directory is not known`,
      {
        hint: 'Give path in tars.yaml: the directory that holds chroma.sqlite3.',
      },
    );
  }

  #unreachable(): ServiceUnavailableError {
    return new ServiceUnavailableError(`Neither url nor path of ${this.name} is configured as needed`, {
      hint: 'Set url in tars.yaml to the address of the Chroma server.',
    });
  }
}
