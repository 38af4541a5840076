import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { execa } from 'execa';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { localOffsetAt, parseSpan } from '../../src/model/calendar.ts';
import { applyRetention, type RetentionDecision, type RetentionRules } from '../../src/model/retention.ts';
import type { SnapshotSummary } from '../../src/model/snapshot.ts';
import { planForget } from '../../src/operations/retention/forget.ts';
import { encodeSnapshot } from '../../src/repository/format/snapshot-file.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory } from '../fixtures/repositories.ts';
import { stockRestics, type StockRestic } from '../fixtures/restic.ts';

const ctx = testContext();
const historiesInAll = counted(25, 1000);
const historiesAtOnce = counted(9, 25);

let directory: RepositoryDirectory;
let repository: OpenedRepository;
before(async () => {
  directory = await RepositoryDirectory.created();
  repository = await openRepository(createLocalStorage(directory.path), password, ctx);
});
after(() => directory[Symbol.asyncDispose]());

/** With changes of the clocks by an hour on both halves of the globe and by half of one, and without any. */
const zones = [
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'America/St_Johns',
  'Asia/Kathmandu',
  'Pacific/Auckland',
  'UTC',
];

/** Nights on which clocks change somewhere, the turn of ISO years, leap days and the ends of short months. */
const oddMoments = [
  '2025-03-30T01:00Z',
  '2025-10-26T01:00Z',
  '2025-03-09T07:00Z',
  '2025-11-02T06:00Z',
  '2025-04-05T15:00Z',
  '2025-10-04T15:30Z',
  '2024-12-31T23:00Z',
  '2024-02-29T12:00Z',
  '2025-03-31T10:00Z',
  '2026-01-01T11:00Z',
].map((text) => Date.parse(text));

const minuteMs = 60_000;
const dayMs = 1440 * minuteMs;

class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] ?? assert.fail('nothing to pick from');
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }
}

/** Runs `action` as a process would that was started with this time zone. */
async function inZone<T>(zone: string, action: () => T | Promise<T>): Promise<T> {
  const previous = process.env['TZ'];
  process.env['TZ'] = zone;
  try {
    return await action();
  } finally {
    if (previous === undefined) delete process.env['TZ'];
    else process.env['TZ'] = previous;
  }
}

interface Written {
  readonly timeMs: number;
  readonly offsetMinutes: number;
  readonly tags: readonly string[];
}

/** One stack's snapshots: some cron around an odd moment, seen by a clock that may be set to another zone. */
async function randomHistory(dice: Dice): Promise<Written[]> {
  const stepMs = dice.pick([20 * minuteMs, 55 * minuteMs, 0.4 * dayMs, dayMs, 3 * dayMs, 12 * dayMs]);
  const count = 1 + dice.below(30);
  const middleMs = dice.pick(oddMoments);
  const isAhead = dice.chance(0.1);
  const home = dice.pick(zones);
  const times = new Set<number>();
  for (let i = 0; i < count; i++) {
    const roundMs = middleMs + (i - count / 2) * stepMs;
    const jitterMs = dice.chance(0.5) ? 0 : dice.below(stepMs);
    times.add(Math.round(roundMs + jitterMs + (isAhead && i === 0 ? 4000 * dayMs : 0)));
  }
  const written: Written[] = [];
  for (const timeMs of times) {
    const zone = dice.chance(0.9) ? home : dice.pick(zones);
    const tags = [dice.chance(0.15) ? 'partial' : 'whole', ...['a', 'b'].filter(() => dice.chance(0.2))];
    written.push({ timeMs, offsetMinutes: await inZone(zone, () => localOffsetAt(timeMs)), tags });
  }
  // A stack without any that the rules look at, or that they keep nothing of, restic refuses.
  const [first] = written;
  if (first !== undefined) written[0] = { ...first, tags: ['whole', 'a'] };
  return written;
}

/** Flags for restic and the rules they mean. */
function randomRules(dice: Dice): { flags: string[]; rules: RetentionRules } {
  const flags: string[] = [];
  const counts: Record<string, number> = {};
  for (const rule of ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly']) {
    if (!dice.chance(0.35)) continue;
    counts[rule] = 1 + dice.below(6);
    flags.push(`--keep-${rule}`, String(counts[rule]));
  }
  const within = dice.chance(0.35) ? dice.pick(['3h', '26h', '5d', '1m', '1m1d12h', '2m', '1y', '1y1m']) : '';
  if (within !== '') flags.push('--keep-within', within);
  const tags = flags.length === 0 || dice.chance(0.3) ? [dice.pick(['a', 'a,b', 'b', ''])] : [];
  if (flags.length === 0) tags.push('a');
  for (const list of tags) flags.push('--keep-tag', list);
  return {
    flags,
    rules: {
      ...counts,
      ...(within === '' ? {} : { within: parseSpan(within) }),
      tags: tags.map((list) => list.split(',')),
    },
  };
}

async function publish(histories: readonly (readonly Written[])[]): Promise<void> {
  const folder = join(directory.path, 'snapshots');
  for (const name of await readdir(folder)) await rm(join(folder, name));
  await Promise.all(
    histories.map(async (history, index) => {
      for (const { timeMs, offsetMinutes, tags } of history) {
        const json = encodeSnapshot({
          timeNs: BigInt(timeMs) * 1_000_000n,
          utcOffsetMinutes: offsetMinutes,
          tree: '0'.repeat(64),
          // Two hosts have a stack of the same name.
          paths: [`/tars/h${index >> 1}`],
          hostname: index % 2 === 0 ? 'box' : 'nas',
          username: 'op',
          uid: 0,
          gid: 0,
          tags,
        });
        await repository.saveUnpacked('snapshots', json, ctx.signal);
      }
    }),
  );
}

interface ResticGroup {
  readonly keep: readonly { readonly id: string }[] | null;
  readonly remove: readonly { readonly id: string }[] | null;
  /** In the order of `keep`. */
  readonly reasons: readonly { readonly matches: readonly string[] }[] | null;
}

/** By id: restic's reasons for what it keeps, none for what it would remove. */
async function askRestic(
  restic: StockRestic,
  args: readonly string[],
  zone: string,
): Promise<Map<string, readonly string[]>> {
  const { stdout } = await execa(
    restic.path,
    [
      '-r',
      directory.path,
      '--no-cache',
      '--no-lock',
      'forget',
      '--dry-run',
      '--json',
      '--tag',
      'whole',
      ...args,
    ],
    { env: { RESTIC_PASSWORD: password, TZ: zone, GOMAXPROCS: '2' } },
  );
  const groups = JSON.parse(stdout.split('\n')[0] ?? '') as ResticGroup[];
  const decided = new Map<string, readonly string[]>();
  for (const { keep, remove, reasons } of groups) {
    for (const { id } of remove ?? []) decided.set(id, []);
    for (const [index, { id }] of (keep ?? []).entries()) decided.set(id, reasons?.[index]?.matches ?? []);
  }
  return decided;
}

/** What that restic would say: before 0.16 it did not keep the oldest, and does not call it that before 0.19. */
function asRestic({ reasons }: Pick<RetentionDecision<unknown>, 'reasons'>, restic: StockRestic): string[] {
  if (!restic.isAtLeast(16)) return reasons.filter((reason) => !reason.startsWith('oldest '));
  return restic.isAtLeast(19) ? [...reasons] : reasons.map((reason) => reason.replace(/^oldest /, ''));
}

async function compare(
  args: readonly string[],
  zone: string,
  decisions: readonly RetentionDecision<SnapshotSummary>[],
  what: string,
): Promise<void> {
  for (const restic of stockRestics) {
    const theirs = await askRestic(restic, args, zone);
    const ours = new Map(
      decisions.map((decision) => [decision.snapshot.id, asRestic(decision, restic)] as const),
    );
    assert.equal(ours.size, theirs.size, `${what}, restic ${restic.version}`);
    for (const [id, reasons] of theirs) {
      assert.deepEqual(ours.get(id), reasons, `${what}, restic ${restic.version}, snapshot ${id}`);
    }
  }
}

test(`decisions equal stock restic's on ${historiesInAll} histories, with reasons`, async () => {
  for (let done = 0; done < historiesInAll; done += historiesAtOnce) {
    const dice = new Dice(campaignSeed + done);
    const histories: Written[][] = [];
    for (let i = 0; i < historiesAtOnce; i++) histories.push(await randomHistory(dice));
    await publish(histories);
    const zone = dice.pick(zones);
    await using store = await directory.store();

    const grouped = randomRules(dice);
    const about = `seed ${campaignSeed + done}, TZ=${zone}, ${grouped.flags.join(' ')}`;
    const request = {
      rules: grouped.rules,
      stack: undefined,
      hostname: undefined,
      allowLast: true,
      allowShrunk: true,
      count: countAmounts,
    };
    const plan = await inZone(zone, () => planForget(store, request, ctx));
    assert.equal(plan.stacks.length, historiesAtOnce);
    const decisions = plan.stacks
      .flatMap((stack) => stack.decisions)
      .filter(({ snapshot }) => !snapshot.tags.includes('partial'))
      .map((decision) => (decision.keep ? decision : { ...decision, reasons: [] }));
    await compare(['--group-by', 'host,paths', ...grouped.flags], zone, decisions, about);

    const whole = randomRules(dice);
    const complete = (await store.list(ctx)).filter(({ tags }) => !tags.includes('partial'));
    const together = await inZone(zone, () =>
      applyRetention(complete, whole.rules, { now: ctx.clock.now(), offsetAt: localOffsetAt }),
    );
    const flags = ['--group-by', '', ...whole.flags];
    await compare(flags, zone, together, `seed ${campaignSeed + done}, TZ=${zone}, ${flags.join(' ')}`);
  }
});
