import { createReadStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readlink, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CorruptionError, RestoreRefusedError, TarsError } from '../model/errors.ts';
import type { Finding } from '../model/finding.ts';
import type { RestorePlan, SwapRecord } from '../model/restore-plan.ts';
import type { Component, Generation, Staged } from '../ports/component.ts';
import type { OperationContext } from '../ports/context.ts';
import type { NewEntry, OpenVolume, StoreVolume, VolumeExchange, VolumeListing } from '../ports/volume.ts';
import { attributesOf } from './files/file-bytes.ts';

export interface MirrorOptions {
  /** The store as it is reached: captures, probes, compares. */
  readonly base: Component;
  /** The same store as if `directory` were the one it keeps its data in; `live` is that one. */
  readonly at: (directory: string, live: OpenVolume) => Component;
  readonly volume: StoreVolume;
  readonly scratchDir: string;
  /** Puts into `directory` what planning and staging look at in the live one. */
  readonly fill: (
    directory: string,
    live: OpenVolume,
    listing: VolumeListing,
    ctx: OperationContext,
  ) => Promise<void>;
  /**
   * What the swap of `record` replaces, relative to `directory`: some paths, or everything; `elsewhere` when it is no
   * exchange of files.
   */
  readonly replaced: (
    record: SwapRecord,
    directory: string,
  ) => readonly string[] | 'everything' | 'elsewhere';
  /** Also what a cut-off staging left elsewhere than in the directory. */
  readonly removeElsewhere?: (restoreId: string, ctx: OperationContext) => Promise<void>;
}

const detailsSchema = z.object({
  method: z.literal('volume'),
  restoreId: z.string(),
  paths: z.array(z.string()).optional(),
});

/**
 * A store whose directory no path leads to. It is restored into a private directory first, as if that were its own,
 * and verified there; then what was staged is sent to the volume and exchanged inside it.
 */
export function createMirroredComponent(options: MirrorOptions): Component {
  const { base, volume } = options;
  const { name, kind, service } = base;
  return {
    ...{ name, kind, service },
    probe: (ctx) => base.probe(ctx),
    ready: (ctx) => base.ready(ctx),
    prepare: (ctx) => base.prepare(ctx),
    verify: (from, ctx) => base.verify(from, ctx),
    async planRestore(from, restore, ctx) {
      await using mirror = await Mirror.open(options, restore.restoreId, ctx);
      return mirror.describe(await mirror.component.planRestore(from, restore, ctx));
    },
    async stage(plan, source, ctx) {
      const { restoreId } = z.object({ restoreId: z.string() }).parse(plan.details);
      await using mirror = await Mirror.open(options, restoreId, ctx);
      const staged = await mirror.component.stage(plan, source, ctx);
      const replaced = options.replaced(staged.record, mirror.directory);
      if (replaced === 'elsewhere') return staged;
      const findings = await staged.verify(ctx);
      const exchange = { restoreId, paths: replaced === 'everything' ? undefined : replaced };
      if (!findings.some(({ severity }) => severity === 'error'))
        await upload(volume, mirror, restoreId, ctx);
      return new UploadedStaging(options, exchange, findings);
    },
    async removeStaged(restoreId, ctx) {
      await rm(Mirror.placeOf(options, restoreId), { recursive: true, force: true });
      await using open = await volume.open('write', ctx);
      await open.remove(stagedFolder(restoreId), ctx.signal);
      await options.removeElsewhere?.(restoreId, ctx);
    },
    generation(record) {
      return record.details['method'] === 'volume' ? exchanged(volume, record) : base.generation(record);
    },
  };
}

const stagedFolder = (restoreId: string): string => `.tars-new-${restoreId}`;

/** The private directory, with a listing of the volume it stands for. */
class Mirror implements AsyncDisposable {
  readonly directory: string;
  readonly listing: VolumeListing | undefined;
  /** The store as if the directory were its own. */
  readonly component: Component;
  readonly #place: string;
  readonly #label: string;
  readonly #live: OpenVolume;

  static placeOf({ base, scratchDir }: MirrorOptions, restoreId: string): string {
    return join(scratchDir, `mirror-${base.name}-${restoreId}`);
  }

  static async open(options: MirrorOptions, restoreId: string, ctx: OperationContext): Promise<Mirror> {
    const { volume, fill, scratchDir } = options;
    await mkdir(scratchDir, { recursive: true, mode: 0o700 });
    await using stack = new AsyncDisposableStack();
    const place = Mirror.placeOf({ ...options, scratchDir: await realpath(scratchDir) }, restoreId);
    await rm(place, { recursive: true, force: true });
    const directory = join(place, 'store');
    stack.defer(() => rm(place, { recursive: true, force: true }));
    await mkdir(place, { mode: 0o700 });
    await mkdir(directory);
    const live = stack.use(await volume.open('read', ctx));
    const listing = await live.list(ctx.signal);
    if (listing !== undefined) {
      // Ours it must stay, and what is staged beside the live data takes its mode from there.
      await chmod(directory, (listing.root.attributes.mode & 0o777) | 0o700);
      await fill(directory, live, listing, ctx);
    }
    stack.move();
    return new Mirror(options, place, listing, live);
  }

  private constructor(
    { at, volume }: MirrorOptions,
    place: string,
    listing: VolumeListing | undefined,
    live: OpenVolume,
  ) {
    this.#place = place;
    this.directory = join(place, 'store');
    this.component = at(this.directory, live);
    this.#label = volume.label;
    this.listing = listing;
    this.#live = live;
  }

  /** The plan in terms of the volume. Staging takes space here first. */
  describe(plan: RestorePlan): RestorePlan {
    const say = (text: string): string => text.replaceAll(this.directory, this.#label);
    return {
      ...plan,
      steps: plan.steps.map(say),
      warnings: plan.warnings.map(say),
      space: plan.space.map(({ sizeBytes }) => ({ path: join(this.#place, '..'), sizeBytes })),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#live[Symbol.asyncDispose]();
    await rm(this.#place, { recursive: true, force: true });
  }
}

/** Sends what is staged, owned like the live directory, and looks whether all of it has arrived. */
async function upload(
  volume: StoreVolume,
  { directory, listing }: Mirror,
  restoreId: string,
  ctx: OperationContext,
): Promise<void> {
  const folder = stagedFolder(restoreId);
  await using open = await volume.open('write', ctx);
  const task = ctx.progress.start(`sending to ${volume.label}`);
  let outcome: 'ok' | 'failed' = 'failed';
  try {
    const root = listing ?? (await createdListing(open, ctx.signal));
    await open.remove(folder, ctx.signal);
    const sent = new Map<string, number>();
    const entries = stagedEntries(directory, folder, root, sent, task.advance.bind(task));
    await open.write(entries, ctx.signal);
    requireArrived(sent, await open.list(ctx.signal), volume.label);
    outcome = 'ok';
  } catch (error) {
    // Whatever interrupted it: a half-sent copy is only in the way.
    await open.remove(folder, new AbortController().signal).catch(() => undefined);
    throw error;
  } finally {
    task.finish(outcome);
  }
}

async function createdListing(open: OpenVolume, signal: AbortSignal): Promise<VolumeListing> {
  // Opened for writing, a directory that was missing is there.
  const listing = await open.list(signal);
  if (listing === undefined) throw new TarsError('internal', 'A directory was not created');
  return listing;
}

async function* stagedEntries(
  directory: string,
  path: string,
  root: VolumeListing,
  sent: Map<string, number>,
  onBytes: (bytes: number) => void,
  inodes = new Map<bigint, string>(),
): AsyncGenerator<NewEntry> {
  const full = join(directory, path);
  const stats = await lstat(full, { bigint: true });
  const { uid, gid } = root.root.attributes;
  const attributes = { ...attributesOf(stats), uid, gid };
  if (stats.isDirectory()) {
    yield { path, type: 'directory', attributes, sizeBytes: 0 };
    for (const name of (await readdir(full)).sort())
      yield* stagedEntries(directory, `${path}/${name}`, root, sent, onBytes, inodes);
    return;
  }
  if (stats.isSymbolicLink()) {
    yield { path, type: 'symlink', attributes, sizeBytes: 0, linkTarget: await readlink(full) };
    return;
  }
  const sizeBytes = Number(stats.size);
  sent.set(path, sizeBytes);
  const first = inodes.get(stats.ino);
  if (first !== undefined) {
    yield { path, type: 'link', attributes, sizeBytes: 0, linkTarget: first };
    return;
  }
  if (stats.nlink > 1n) inodes.set(stats.ino, path);
  const body = (async function* () {
    for await (const chunk of createReadStream(full, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      onBytes(chunk.length);
      yield chunk;
    }
  })();
  yield { path, type: 'file', attributes, sizeBytes, body };
}

function requireArrived(
  sent: ReadonlyMap<string, number>,
  listing: VolumeListing | undefined,
  label: string,
): void {
  for (const [path, sizeBytes] of sent) {
    const arrived = listing?.entries.get(path)?.identity.sizeBytes;
    if (arrived === sizeBytes) continue;
    throw new TarsError('restore-failed', `${path} did not arrive whole in ${label}`, {
      hint: 'Look for space on the file system of the Engine, then run the restore again.',
    });
  }
}

class UploadedStaging implements Staged {
  readonly record: SwapRecord;
  readonly #volume: StoreVolume;
  readonly #exchange: VolumeExchange;
  readonly #findings: readonly Finding[];

  constructor({ base, volume }: MirrorOptions, exchange: VolumeExchange, findings: readonly Finding[]) {
    this.#volume = volume;
    this.#exchange = exchange;
    this.#findings = findings;
    const { restoreId, paths } = exchange;
    this.record = {
      component: base.name,
      kind: base.kind,
      wayBack: volume.wayBack(exchange),
      details: { method: 'volume', restoreId, ...(paths === undefined ? {} : { paths: [...paths] }) },
    };
  }

  /** Was done before it was sent. */
  verify(): Promise<readonly Finding[]> {
    return Promise.resolve(this.#findings);
  }

  async swap(ctx: OperationContext): Promise<void> {
    if (await this.#volume.running()) {
      throw new RestoreRefusedError(`${this.record.component} still runs on ${this.#volume.label}`, {
        hint: 'Stop it; it would overwrite the restored data. Then run the restore again.',
      });
    }
    await using open = await this.#volume.open('write', ctx);
    await open.swap(this.#exchange, ctx.signal);
  }

  async discard(ctx: OperationContext): Promise<void> {
    await using open = await this.#volume.open('write', ctx);
    await open.remove(stagedFolder(this.#exchange.restoreId), ctx.signal);
  }
}

function exchanged(volume: StoreVolume, record: SwapRecord): Generation {
  const parsed = detailsSchema.safeParse(record.details);
  if (!parsed.success) {
    throw new CorruptionError(`The record of the swap of ${record.component} is damaged`, {
      cause: parsed.error,
    });
  }
  const exchange = { restoreId: parsed.data.restoreId, paths: parsed.data.paths };
  return {
    async undo(ctx) {
      await using open = await volume.open('write', ctx);
      for (const path of await open.undo(exchange, ctx.signal))
        ctx.log.warn(
          `Something had been created anew in ${volume.label} in the middle of the restore; it is kept as ${path}`,
        );
    },
    async discardPrevious(ctx) {
      await using open = await volume.open('write', ctx);
      await open.discardPrevious(exchange, ctx.signal);
    },
  };
}
