import { chmod, mkdir, realpath, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { z } from 'zod';
import { CleanupStack } from '../../model/cleanup-stack.ts';
import { RestoreRefusedError, TarsError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { holdsNothing } from '../../disk/holds-nothing.ts';
import { makeDirectories } from '../../disk/make-directories.ts';
import { openScratch } from '../../disk/run-scratch.ts';
import type { RestorePlan, SwapRecord } from '../../model/restore-plan.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component, Generation, PlannedRestore, Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type {
  ExchangedPart,
  OpenVolume,
  StoreVolume,
  VolumeExchange,
  VolumeListing,
} from '../../ports/volume.ts';
import { leftoverName } from '../paths/leftovers.ts';
import { singleUse } from '../restore/single-use.ts';
import { swapDetails, swapMethod } from '../restore/swap-details.ts';
import { sendStaged } from './upload.ts';

/** Files of a volume, while it is open. */
export type LiveFiles = Pick<OpenVolume, 'read'>;

/** A store whose files are brought here to be worked on, and taken back. */
export interface MirrorOptions {
  /** The store as it is reached: captures, probes, compares. */
  readonly base: Component;
  /** The same store as if `directory` were the one it keeps its data in; `live` reads that one. */
  readonly at: (directory: string, live: LiveFiles) => Component;
  readonly volume: StoreVolume;
  readonly scratchDir: string;
  /** Puts into `directory` what planning and staging look at in the live one. */
  readonly fill: (
    directory: string,
    live: OpenVolume,
    listing: VolumeListing,
    ctx: OperationContext,
  ) => Promise<void>;
  /** Also what a cut-off staging left elsewhere than in the directory. */
  readonly removeElsewhere?: (restoreId: string, ctx: OperationContext) => Promise<void>;
}

const partSchema = z.union([
  z.strictObject({ all: z.literal(true) }),
  z.strictObject({ paths: z.array(z.string()) }),
]);

const detailsSchema = z.object({
  method: z.literal('volume'),
  restoreId: z.string(),
  part: partSchema.optional(),
  /** Written up to 1.0.12, whose swaps took a list without paths, like no list, for everything. */
  paths: z.array(z.string()).optional(),
});

const partOf = ({ part, paths }: z.infer<typeof detailsSchema>): ExchangedPart =>
  part ?? (paths === undefined || paths.length === 0 ? { all: true } : { paths });

/** Whether there is nothing to send, to exchange or to put back. */
const isNothing = (part: ExchangedPart): boolean => 'paths' in part && part.paths.length === 0;

/**
 * A store whose directory no path leads to. It is restored into a private directory first, as if that were its own,
 * and verified there; then what was staged is sent to the volume and exchanged inside it.
 */
export function createMirroredComponent(options: MirrorOptions): Component {
  const { base, volume } = options;
  const { name, kind, service } = base;
  return {
    ...{ name, kind, service },
    leftOut: async (ctx) => (await base.leftOut?.(ctx)) ?? [],
    probe: (ctx) => base.probe(ctx),
    async leftovers(ctx) {
      await using open = await volume.open('read', ctx);
      const names = [...((await open.list(ctx.signal))?.entries.keys() ?? [])];
      return names
        .filter((path) => leftoverName.test(path))
        .map((path) => ({ what: `${path} in ${volume.label}`, remove: volume.removal(path) }));
    },
    ready: (ctx) => base.ready(ctx),
    prepare: (ctx) => base.prepare(ctx),
    verify: (from, ctx, source) => base.verify(from, ctx, source),
    async planRestore(from, restore, ctx, source) {
      const mirror = new Mirror(options, restore.restoreId);
      await using opened = await mirror.open(ctx);
      const planned = await opened.component.planRestore(from, restore, ctx, source);
      return singleUse(
        { plan: mirror.describe(planned.plan, opened.directory), details: planned },
        (...stage) => stageInMirror(options, mirror, ...stage),
      );
    },
    async removeStaged(restoreId, ctx) {
      // Versions up to 1.0.12 had it there; by now it goes with the scratch directory of its run.
      const place = join(options.scratchDir, `mirror-${base.name}-${restoreId}`);
      await rm(place, { recursive: true, force: true });
      await using open = await volume.open('write', ctx);
      await open.remove(stagedFolder(restoreId), ctx.signal);
      await options.removeElsewhere?.(restoreId, ctx);
    },
    generation(record) {
      return swapMethod(record) === 'volume' ? exchanged(volume, kind, record) : base.generation(record);
    },
  };
}

const stagedFolder = (restoreId: string): string => `.tars-new-${restoreId}`;

/** Stages in the mirror what was planned there, and sends it to the volume. */
async function stageInMirror(
  options: MirrorOptions,
  mirror: Mirror,
  planned: PlannedRestore,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const { restoreId } = mirror;
  await using opened = await mirror.open(ctx);
  const staged = await planned.stage(source, ctx);
  if (staged.replaces === undefined) return staged;
  const part = partIn(opened.directory, staged.replaces);
  const findings = await staged.verify(ctx);
  if (!isNothing(part) && !hasErrors(findings))
    await sendStaged(options.volume, opened, stagedFolder(restoreId), ctx);
  return new UploadedStaging(options, { restoreId, part }, findings);
}

/** What of the volume is replaced, where `paths` are replaced in the directory that stands for it. */
const partIn = (directory: string, paths: readonly string[]): ExchangedPart =>
  paths.includes(directory) ? { all: true } : { paths: paths.map((path) => relative(directory, path)) };

/** The private directory while it is there, with a listing of the volume it stands for. */
interface OpenMirror extends AsyncDisposable {
  readonly directory: string;
  readonly listing: VolumeListing | undefined;
  /** The store as if the directory were its own. */
  readonly component: Component;
}

/**
 * A private directory that stands for the volume. It is made once for the plan and once for the staging, under the
 * same path, so that the same component can carry out what it planned.
 */
class Mirror implements LiveFiles {
  readonly restoreId: string;
  readonly #options: MirrorOptions;
  #live: OpenVolume | undefined;
  #made: Pick<OpenMirror, 'directory' | 'component'> | undefined;

  constructor(options: MirrorOptions, restoreId: string) {
    this.#options = options;
    this.restoreId = restoreId;
  }

  async open(ctx: OperationContext): Promise<OpenMirror> {
    const { base, volume, scratchDir } = this.#options;
    await makeDirectories(scratchDir, 0o700);
    await using stack = new CleanupStack();
    const real = await realpath(scratchDir);
    const scratch = stack.use(await openScratch(real, 'mirror', `${base.name}-${this.restoreId}`));
    const { directory, component } = this.#at(join(scratch.path, 'store'));
    await mkdir(directory);
    const live = stack.use(await volume.open('read', ctx));
    const listing = await live.list(ctx.signal);
    if (listing !== undefined) await this.#fill(directory, live, listing, ctx);
    const opened = stack.move();
    this.#live = live;
    return {
      ...{ directory, listing, component },
      [Symbol.asyncDispose]: async () => {
        this.#live = undefined;
        await opened[Symbol.asyncDispose]();
      },
    };
  }

  #at(directory: string): Pick<OpenMirror, 'directory' | 'component'> {
    this.#made ??= { directory, component: this.#options.at(directory, this) };
    if (this.#made.directory === directory) return this.#made;
    throw new TarsError('internal', `${directory} is not where the restore was planned`);
  }

  async #fill(
    directory: string,
    live: OpenVolume,
    listing: VolumeListing,
    ctx: OperationContext,
  ): Promise<void> {
    // Ours it must stay, and what is staged beside the live data takes its mode from there.
    await chmod(directory, (listing.root.attributes.mode & 0o777) | 0o700);
    await this.#options.fill(directory, live, listing, ctx);
    // What is not brought here must not make a volume look new.
    if (listing.entries.size > 0 && (await holdsNothing(directory)))
      await writeFile(join(directory, '.not-mirrored'), '');
  }

  /** Of the volume, while the mirror is open. */
  read(path: string, signal: AbortSignal): ReturnType<OpenVolume['read']> {
    if (this.#live !== undefined) return this.#live.read(path, signal);
    throw new TarsError('internal', `${path} is read in a mirror that is closed`);
  }

  /** The plan in terms of the volume. Staging takes space here first. */
  describe(plan: RestorePlan, directory: string): RestorePlan {
    const { volume, scratchDir } = this.#options;
    const say = (text: string): string => text.replaceAll(directory, volume.label);
    return {
      ...plan,
      steps: plan.steps.map(say),
      warnings: plan.warnings.map(say),
      space: plan.space.map(({ sizeBytes }) => ({ path: scratchDir, sizeBytes })),
    };
  }
}

class UploadedStaging implements Staged {
  readonly record: SwapRecord;
  /** Nothing here: what it replaces is in the volume. */
  readonly replaces = undefined;
  readonly #volume: StoreVolume;
  readonly #exchange: VolumeExchange;
  readonly #findings: readonly Finding[];

  constructor({ base, volume }: MirrorOptions, exchange: VolumeExchange, findings: readonly Finding[]) {
    this.#volume = volume;
    this.#exchange = exchange;
    this.#findings = findings;
    const { restoreId, part } = exchange;
    this.record = {
      component: base.name,
      kind: base.kind,
      wayBack: volume.wayBack(exchange),
      details: { method: 'volume', restoreId, part },
    };
  }

  /** Was done before it was sent. */
  verify(): Promise<readonly Finding[]> {
    return Promise.resolve(this.#findings);
  }

  async swap(ctx: OperationContext): Promise<void> {
    if (isNothing(this.#exchange.part)) return;
    if (await this.#volume.running()) {
      throw new RestoreRefusedError(`${this.record.component} still runs on ${this.#volume.label}`, {
        hint: 'Stop it; it would overwrite the restored data. Then run the restore again.',
      });
    }
    await using open = await this.#volume.open('write', ctx);
    await open.swap(this.#exchange, ctx.signal);
  }

  async discard(ctx: OperationContext): Promise<void> {
    if (isNothing(this.#exchange.part)) return;
    await using open = await this.#volume.open('write', ctx);
    await open.remove(stagedFolder(this.#exchange.restoreId), ctx.signal);
  }
}

function exchanged(volume: StoreVolume, kind: string, record: SwapRecord): Generation {
  const details = swapDetails(record, kind, detailsSchema);
  const exchange = { restoreId: details.restoreId, part: partOf(details) };
  return {
    async undo(ctx) {
      if (isNothing(exchange.part)) return;
      await using open = await volume.open('write', ctx);
      for (const path of await open.undo(exchange, ctx.signal))
        ctx.log.warn(
          `Something was created again in ${volume.label} during the restore; it is kept as ${path}`,
        );
    },
    async discardPrevious(ctx) {
      if (isNothing(exchange.part)) return;
      await using open = await volume.open('write', ctx);
      await open.discardPrevious(exchange, ctx.signal);
    },
  };
}
