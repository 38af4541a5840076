import { chmod, mkdir, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CleanupStack } from '../../model/cleanup-stack.ts';
import { CorruptionError, RestoreRefusedError } from '../../model/errors.ts';
import { hasErrors, type Finding } from '../../model/finding.ts';
import { holdsNothing } from '../../disk/holds-nothing.ts';
import { makeDirectories } from '../../disk/make-directories.ts';
import { openScratch, type ScratchDirectory } from '../../disk/run-scratch.ts';
import type { RestorePlan, SwapRecord } from '../../model/restore-plan.ts';
import type { Component, Generation, Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type {
  ExchangedPart,
  OpenVolume,
  StoreVolume,
  VolumeExchange,
  VolumeListing,
} from '../../ports/volume.ts';
import { leftoverName } from '../paths/leftovers.ts';
import { sendStaged } from './upload.ts';

/** A store whose files are brought here to be worked on, and taken back. */
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
  /** What the swap of `record` replaces, relative to `directory`; `elsewhere` when it exchanges no files. */
  readonly replaced: (record: SwapRecord, directory: string) => ExchangedPart | 'elsewhere';
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
      await using mirror = await Mirror.open(options, restore.restoreId, ctx);
      return mirror.describe(await mirror.component.planRestore(from, restore, ctx, source));
    },
    async stage(plan, source, ctx) {
      const { restoreId } = z.object({ restoreId: z.string() }).parse(plan.details);
      await using mirror = await Mirror.open(options, restoreId, ctx);
      const staged = await mirror.component.stage(plan, source, ctx);
      const replaced = options.replaced(staged.record, mirror.directory);
      if (replaced === 'elsewhere') return staged;
      const findings = await staged.verify(ctx);
      const exchange = { restoreId, part: replaced };
      if (!isNothing(replaced) && !hasErrors(findings))
        await sendStaged(volume, mirror, stagedFolder(restoreId), ctx);
      return new UploadedStaging(options, exchange, findings);
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
  readonly #scratch: ScratchDirectory;
  readonly #scratchDir: string;
  readonly #label: string;
  readonly #live: OpenVolume;

  static async open(options: MirrorOptions, restoreId: string, ctx: OperationContext): Promise<Mirror> {
    const { base, volume, fill, scratchDir } = options;
    await makeDirectories(scratchDir, 0o700);
    await using stack = new CleanupStack();
    // Staging finds the same path that planning saw.
    const real = await realpath(scratchDir);
    const scratch = stack.use(await openScratch(real, 'mirror', `${base.name}-${restoreId}`));
    const directory = join(scratch.path, 'store');
    await mkdir(directory);
    const live = stack.use(await volume.open('read', ctx));
    const listing = await live.list(ctx.signal);
    if (listing !== undefined) {
      // Ours it must stay, and what is staged beside the live data takes its mode from there.
      await chmod(directory, (listing.root.attributes.mode & 0o777) | 0o700);
      await fill(directory, live, listing, ctx);
      // What is not brought here must not make a volume look new.
      if (listing.entries.size > 0 && (await holdsNothing(directory)))
        await writeFile(join(directory, '.not-mirrored'), '');
    }
    stack.move();
    return new Mirror(options, scratch, listing, live);
  }

  private constructor(
    { at, volume, scratchDir }: MirrorOptions,
    scratch: ScratchDirectory,
    listing: VolumeListing | undefined,
    live: OpenVolume,
  ) {
    this.#scratch = scratch;
    this.#scratchDir = scratchDir;
    this.directory = join(scratch.path, 'store');
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
      space: plan.space.map(({ sizeBytes }) => ({ path: this.#scratchDir, sizeBytes })),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#live[Symbol.asyncDispose]();
    await this.#scratch[Symbol.asyncDispose]();
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

function exchanged(volume: StoreVolume, record: SwapRecord): Generation {
  const parsed = detailsSchema.safeParse(record.details);
  if (!parsed.success) {
    throw new CorruptionError(`The record of the swap of ${record.component} is damaged`, {
      cause: parsed.error,
    });
  }
  const exchange = { restoreId: parsed.data.restoreId, part: partOf(parsed.data) };
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
