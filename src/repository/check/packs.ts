import { availableParallelism } from 'node:os';
import { CleanupStack } from '../../model/cleanup-stack.ts';
import type { TarsError } from '../../model/errors.ts';
import type { OperationContext, ProgressTask } from '../../ports/context.ts';
import { enumerate, isUnreadable, notInterrupted, type Findings } from './findings.ts';
import { loadIndexedPacks, type IndexView } from './indexes.ts';
import { verifyHere, verifyInThread, type PackVerifying } from './pack-thread.ts';
import { planWindows, type PackToVerify, type PackVerdict } from './pack.ts';
import type { BlobHealth } from './trees.ts';
import type { OpenedRepository } from '../open.ts';

/** Below this, starting threads takes longer than they save. */
const threadsFromBytes = 64 << 20;
/** Each thread holds two windows of 4 MiB at a time; more threads than this rarely find a disk that feeds them. */
const threadsMax = 4;

/** The pack files that are there, by name. */
export async function listPacks(
  repo: OpenedRepository,
  findings: Findings,
  ctx: OperationContext,
): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  await findings.examine('data', 'listing-failed', async () => {
    for await (const { name, sizeBytes } of repo.storage.list('data', ctx.signal)) sizes.set(name, sizeBytes);
  });
  return sizes;
}

/** Every indexed pack is there with exactly the size its blobs give it. */
export function checkPackFiles(
  index: IndexView,
  sizes: ReadonlyMap<string, number>,
  findings: Findings,
): void {
  for (const [id, { sizeBytes }] of index.packs) {
    const found = sizes.get(id);
    if (found === undefined) {
      findings.add(
        'error',
        `data/${id}`,
        'pack-missing',
        `Pack ${id} is in the index, but the file is missing`,
      );
    } else if (sizeBytes !== undefined && found !== sizeBytes) {
      findings.add(
        'error',
        `data/${id}`,
        'pack-size-differs',
        `Pack ${id} has ${found} bytes, but its index entries add up to ${sizeBytes}`,
      );
    }
  }
  for (const id of sizes.keys()) {
    if (index.packs.has(id)) continue;
    findings.add(
      'info',
      `data/${id}`,
      'pack-not-indexed',
      `Pack ${id} is in no index: it belongs to an interrupted or a running backup`,
    );
  }
}

/** Reads and verifies the content of indexed packs: all of them, or those in `only`. */
export class PackReading {
  readonly #repo: OpenedRepository;
  readonly #index: IndexView;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #health: BlobHealth;
  readonly #findings: Findings;
  readonly #ctx: OperationContext;
  readonly #only: ReadonlySet<string> | undefined;
  #readBytes = 0;

  constructor(
    repo: OpenedRepository,
    index: IndexView,
    sizes: ReadonlyMap<string, number>,
    health: BlobHealth,
    findings: Findings,
    ctx: OperationContext,
    only?: ReadonlySet<string>,
  ) {
    this.#repo = repo;
    this.#only = only;
    this.#index = index;
    this.#sizes = sizes;
    this.#health = health;
    this.#findings = findings;
    this.#ctx = ctx;
  }

  /** Returns the bytes read. Two packs are in flight per thread's worth of memory, whatever their size. */
  async run(): Promise<number> {
    const wanted = [...this.#index.packs.keys()].filter((id) => this.#isWanted(id));
    const totalBytes = wanted.reduce((sum, id) => sum + (this.#sizes.get(id) ?? 0), 0);
    const task = this.#ctx.progress.start('Read packs', totalBytes);
    const threads = totalBytes < threadsFromBytes ? 0 : Math.min(threadsMax, availableParallelism());
    await using verifiers = new CleanupStack();
    const lanes = Array.from({ length: Math.max(1, threads) }, () =>
      verifiers.use(threads === 0 ? verifyHere(this.#repo.crypto) : verifyInThread(this.#repo.crypto)),
    );
    const packs = this.#packs();
    // All lanes end before the threads do: one that asked an ended thread would wait for ever.
    const ends = await Promise.allSettled(lanes.map((verifying) => this.#work(packs, verifying, task)));
    const failure = ends.find((end) => end.status === 'rejected');
    task.finish(failure === undefined ? 'ok' : 'failed');
    if (failure !== undefined) throw failure.reason;
    return this.#readBytes;
  }

  #isWanted(id: string): boolean {
    return this.#only?.has(id) !== false;
  }

  /** One index file in memory at a time. A pack that indexes describe alike is read once. */
  async *#packs(): AsyncGenerator<PackToVerify> {
    const done = new Set<string>();
    for (const name of this.#index.names) {
      // It could be read a moment ago; should it be gone now, that is a finding too.
      const packs = await this.#findings.examine(`index/${name}`, 'index-damaged', () =>
        loadIndexedPacks(this.#repo, name, this.#ctx.signal),
      );
      for (const { id, blobs } of packs ?? []) {
        const sizeBytes = this.#sizes.get(id);
        const partial = this.#index.packs.get(id)?.sizeBytes === undefined;
        if (sizeBytes === undefined || done.has(id) || !this.#isWanted(id)) continue;
        if (!partial) done.add(id);
        yield { id, sizeBytes, blobs, partial };
      }
    }
  }

  async #work(
    packs: AsyncGenerator<PackToVerify>,
    verifying: PackVerifying,
    task: ProgressTask,
  ): Promise<void> {
    // Not `for await`, whose end in one lane would close the generator for the others.
    for (let next = await packs.next(); next.done !== true; next = await packs.next()) {
      const pack = next.value;
      try {
        this.#report(pack, await this.#verify(pack, verifying, task));
      } catch (error) {
        const known = notInterrupted(error, `Cannot read pack ${pack.id}`);
        if (known.code === 'internal') throw known;
        if (isUnreadable(known)) this.#reportUnreadable(pack, known);
        else this.#report(pack, { problems: [known.message], damaged: pack.blobs });
      }
    }
  }

  async #verify(pack: PackToVerify, verifying: PackVerifying, task: ProgressTask): Promise<PackVerdict> {
    await verifying.start(pack);
    let fed = Promise.resolve();
    try {
      for (const window of planWindows(pack)) {
        // The next window is read while the thread works on the last one.
        const bytes = await this.#repo.storage.load(
          { type: 'data', name: pack.id },
          window,
          this.#ctx.signal,
        );
        await fed;
        this.#readBytes += bytes.length;
        task.advance(bytes.length);
        fed = verifying.feed(window, bytes);
        fed.catch(() => undefined);
      }
    } finally {
      await fed;
    }
    return verifying.finish();
  }

  #report(pack: PackToVerify, { problems, damaged }: PackVerdict): void {
    if (problems.length === 0) {
      if (this.#index.damaged.has(pack.id)) this.#reportSoundAgain(pack);
      return;
    }
    this.#health.condemnPack(pack.id, damaged);
    this.#findings.add(
      'error',
      `data/${pack.id}`,
      'pack-damaged',
      `Pack ${pack.id} is damaged: ${enumerate(problems)}`,
    );
  }

  #reportSoundAgain({ id }: PackToVerify): void {
    this.#findings.add(
      'info',
      `data/${id}`,
      'pack-sound-again',
      `An earlier check found pack ${id} damaged, and it is undamaged now; after "tars prune", backups use it again`,
    );
  }

  /** What could not be read may be whole: neither the pack nor a snapshot is called damaged. */
  #reportUnreadable({ id }: PackToVerify, { message, hint }: TarsError): void {
    this.#findings.add(
      'error',
      `data/${id}`,
      'pack-unreadable',
      `Pack ${id} was not checked, because it cannot be read: ${message}${hint === undefined ? '' : `. ${hint}`}`,
    );
  }
}
