import { closeSync, constants, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { replaceDurablyIn } from '../../disk/durable-file.ts';
import { isThere } from '../../disk/is-there.ts';
import { requireMounted } from '../../disk/mounts.ts';
import type { OpenDirectory } from '../../disk/open-directory.ts';
import { openPath, type OpenedPath } from '../../disk/open-path.ts';
import { removeTree, removeTreeAt } from '../../disk/remove-tree.ts';
import {
  CorruptionError,
  hasErrno,
  PreviousDataGoneError,
  ServiceUnavailableError,
  TarsError,
} from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import { shellWord } from '../../model/shell-word.ts';
import type { Generation } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import {
  discardPreviousPaths,
  pathSwapSchema,
  swapPaths,
  undoPaths,
  type PathSwap,
} from '../paths/path-swap.ts';
import { swapDetails } from '../restore/swap-details.ts';
import { addressOf, RedisConnection, type RedisAddress } from './connection/connection.ts';

const kind = 'redis';

const placeSchema = z.object({
  dataDir: z.string(),
  stagedDir: z.string(),
  previousDir: z.string(),
  /** Entries of the data directory that are exchanged. */
  names: z.array(z.string()),
});
type SwapPlace = z.infer<typeof placeSchema>;

const noteSchema = z.array(pathSwapSchema.pick({ live: true, hadLive: true }));

/** In the previous directory: what was there when the swap began. */
const noteName = 'swap.json';

/** The record an operation journals before the swap. */
export function recordOf(component: string, place: SwapPlace, wayBackByHand: readonly string[]): SwapRecord {
  return { component, kind, wayBack: wayBackByHand, details: place };
}

/** Shell lines that undo the swap by hand, the server being stopped. */
export function wayBack({ dataDir, previousDir, names }: SwapPlace): string[] {
  return names.flatMap((name) => {
    const live = shellWord(join(dataDir, name));
    const previous = shellWord(join(previousDir, name));
    return [
      `mv ${live} ${shellWord(join(dataDir, `${name}.restored`))}`,
      `[ ! -e ${previous} ] || mv ${previous} ${live}`,
    ];
  });
}

/**
 * Exchanges entries of a data directory by renames. The record of the swap is journalled while the server may still
 * run, and a server that shuts down may write its RDB for the first time. So what was there is noted durably only
 * when the swap begins; without that note it has not begun.
 */
export class FileSwap implements Generation {
  readonly #place: SwapPlace;

  constructor(place: SwapPlace) {
    this.#place = place;
  }

  static from(record: SwapRecord): FileSwap {
    return new FileSwap(swapDetails(record, kind, placeSchema));
  }

  /**
   * Can be run again after a crash.
   * @throws TarsError `restore-failed` when the server still runs: it would overwrite what is put in place
   */
  async carryOut(address: RedisAddress, ctx: OperationContext): Promise<void> {
    await requireStopped(address, this.#place.dataDir, ctx);
    const swaps = (await this.#note()) ?? (await this.#takeNote());
    await swapPaths(swaps);
    await this.discardStaged();
  }

  async undo({ log }: OperationContext): Promise<void> {
    const { dataDir } = this.#place;
    if (!(await isThere(dataDir))) {
      await requireMounted(dataDir);
      throw new PreviousDataGoneError(`The directory ${dataDir} no longer exists`);
    }
    const swaps = await this.#note();
    if (swaps !== undefined) await undoPaths(swaps, (message) => log.warn(message));
    await this.discardStaged();
    await this.#removePrevious();
  }

  async discardPrevious(): Promise<void> {
    const swaps = await this.#note();
    if (swaps === undefined) return;
    await discardPreviousPaths(swaps);
    await this.#removePrevious();
  }

  async discardStaged(): Promise<void> {
    await removeTreeAt(this.#place.stagedDir);
  }

  /**
   * What is moved and deleted is known from the journal: the server that was started since may have made the directory
   * its own (the image of Redis does), and have written what it likes.
   */
  async #note(): Promise<PathSwap[] | undefined> {
    using parent = await this.#openDataDir();
    using previous = parent === undefined ? undefined : this.#openPrevious(parent.directory);
    if (previous?.lstat(noteName) === undefined) return undefined;
    try {
      const note = noteSchema.parse(readJson(previous, noteName));
      const had = new Map(note.map(({ live, hadLive }) => [basename(live), hadLive]));
      return this.#swaps((name) => z.boolean().parse(had.get(name)));
    } catch (error) {
      const path = join(this.#place.previousDir, noteName);
      throw new CorruptionError(`The note of the swap in ${path} cannot be read`, {
        hint: 'The previous data is beside it. Move it back by hand.',
        cause: error,
      });
    }
  }

  async #openDataDir(): Promise<OpenedPath | undefined> {
    const { dataDir } = this.#place;
    return (await isThere(dataDir)) ? openPath(dataDir) : undefined;
  }

  /** @throws TarsError when it leads elsewhere */
  #openPrevious(parent: OpenDirectory): OpenDirectory | undefined {
    const name = basename(this.#place.previousDir);
    const stats = parent.lstat(name);
    if (stats === undefined) return undefined;
    if (!stats.isDirectory()) throw this.#previousIsReplaced();
    return parent.openDirectory(name);
  }

  #previousIsReplaced(): TarsError {
    const { previousDir } = this.#place;
    return new TarsError(
      'restore-failed',
      `Cannot use ${previousDir}: another user owns it, or may write there, so it may not be what tars created`,
      {
        hint: 'Look at what it holds, and at who may write to the directory above it. Move it away, then run the restore again.',
      },
    );
  }

  #swaps(hadLive: (name: string) => boolean): PathSwap[] {
    const { dataDir, stagedDir, previousDir, names } = this.#place;
    return names.map((name) => ({
      live: join(dataDir, name),
      staged: join(stagedDir, name),
      previous: join(previousDir, name),
      hadLive: hadLive(name),
    }));
  }

  async #takeNote(): Promise<PathSwap[]> {
    const { dataDir, previousDir, names } = this.#place;
    const there = new Set<string>();
    for (const name of names) if (await isThere(join(dataDir, name))) there.add(name);
    const swaps = this.#swaps((name) => there.has(name));
    using parent = await openPath(dataDir, { create: 0o700 });
    using previous =
      this.#openPrevious(parent.directory) ?? (await parent.directory.createDirectory(basename(previousDir)));
    if (!previous.isPrivate) throw this.#previousIsReplaced();
    await replaceDurablyIn(previous, noteName, JSON.stringify(swaps));
    await parent.directory.sync();
    return swaps;
  }

  /** The note goes first, so that a directory without one holds nothing. */
  async #removePrevious(): Promise<void> {
    using parent = await this.#openDataDir();
    using previous = parent === undefined ? undefined : this.#openPrevious(parent.directory);
    if (parent === undefined || previous === undefined) return;
    for (const name of [noteName, `${noteName}.tmp`]) await removeTree(previous, name);
    // Not whatever is in it: what a stranger wrote in the middle of a swap is kept there.
    await parent.directory.rmdir(basename(this.#place.previousDir)).catch((error: unknown) => {
      if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTEMPTY')) throw error;
    });
  }
}

function readJson(directory: OpenDirectory, name: string): unknown {
  const descriptor = directory.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return JSON.parse(readFileSync(descriptor, 'utf8'));
  } finally {
    closeSync(descriptor);
  }
}

async function requireStopped(address: RedisAddress, dataDir: string, ctx: OperationContext): Promise<void> {
  try {
    await using _ = await RedisConnection.open(address, ctx.signal);
  } catch (error) {
    if (error instanceof ServiceUnavailableError) return;
    if (!(error instanceof TarsError) || error.code !== 'access-denied') throw error;
  }
  throw new TarsError(
    'restore-failed',
    `Redis still runs on ${dataDir} (it answers at ${addressOf(address)})`,
    { hint: 'Stop it; it would overwrite the restored data when it shuts down.' },
  );
}
