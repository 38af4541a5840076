import assert from 'node:assert/strict';
import { countAmounts } from '../../src/composition/index.ts';
import { test } from 'node:test';
import type { SnapshotOwner } from '../../src/model/snapshot.ts';
import { openWanted } from '../../src/operations/restore/choose-snapshot.ts';
import { executeForget, planForget } from '../../src/operations/retention/forget.ts';
import { parsePruneLimits, pruneRepository } from '../../src/operations/retention/prune.ts';
import type { SnapshotStore } from '../../src/ports/snapshot-store.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { bytesOf, collect, manifestOf, seededBytes, writeOptions } from '../fixtures/archives.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import { createCheapRepository, password, simulatedContext } from './stack-snapshots.ts';

const rounds = counted(5, 100);
const actsInRound = 10;
const ctx = simulatedContext();

/** One machine, and what must be there of it. */
interface Machine {
  readonly owner: SnapshotOwner;
  /** How many of its newest snapshots its rules keep. */
  readonly keeps: number;
  /** Its snapshots with their content, oldest first. */
  snapshots: { readonly id: string; readonly content: Buffer }[];
}

test(`two hosts, one stack name, one repository: ${rounds} rounds of backup, forget, prune and restore in turns`, async () => {
  const fresh = new MemoryStorage();
  await createCheapRepository(fresh, ctx);
  for (let round = 0; round < rounds; round++) {
    const seed = campaignSeed + round;
    const random = seededRandom(seed);
    await using store = await openSnapshotStore(fresh.copy(), password, ctx, { workers: 1 });
    const machines = ['alpha', 'beta'].map((hostname): Machine => {
      return { owner: { stack: 'lab', hostname }, keeps: 1 + Math.floor(random() * 3), snapshots: [] };
    });
    let hour = 0;
    for (let act = 0; act < actsInRound; act++) {
      const machine = machines[Math.floor(random() * 2)]!;
      const about = `seed ${seed}, act ${act} of ${machine.owner.hostname}`;
      const dice = random();
      if (dice < 0.45) await backUp(store, machine, ++hour, seed * 100 + act);
      else if (dice < 0.7) await forget(store, machine);
      else if (dice < 0.85) await pruneRepository(store, parsePruneLimits({}), { dryRun: false }, ctx);
      else await restore(store, machine, machines, about);
      await requireAll(store, machines, about);
    }
    const { findings } = await store.check({ readData: true }, ctx);
    assert.deepEqual(findings, [], `seed ${seed}`);
    for (const machine of machines) await restore(store, machine, machines, `seed ${seed}, at the end`);
  }
});

async function backUp(store: SnapshotStore, machine: Machine, hour: number, seed: number): Promise<void> {
  // Both machines have the most of it in common, so that they share blobs.
  const content = Buffer.concat([seededBytes(1, 40_000), seededBytes(seed, 500)]);
  await using writer = await store.begin({ ...machine.owner, username: 'op' }, ctx);
  const artifact = await writer.write('store/content', bytesOf(content), writeOptions(content.length));
  const time = new Date(Date.UTC(2026, 0, 1, hour)).toISOString();
  const { summary } = await writer.publish({ ...manifestOf([artifact]), ...machine.owner, time }, ctx);
  machine.snapshots.push({ id: summary.id, content });
}

async function forget(store: SnapshotStore, machine: Machine): Promise<void> {
  const request = {
    ...machine.owner,
    rules: { last: machine.keeps, tags: [] },
    allowLast: false,
    allowShrunk: false,
    count: countAmounts,
  };
  await executeForget(store, await planForget(store, request, ctx), ctx);
  machine.snapshots = machine.snapshots.slice(-machine.keeps);
}

/** The newest of its own; while there is none, the newest of the only other. */
async function restore(
  store: SnapshotStore,
  { owner, snapshots }: Machine,
  machines: readonly Machine[],
  about: string,
): Promise<void> {
  const expected = snapshots.at(-1) ?? machines.flatMap((machine) => machine.snapshots).at(-1);
  const wish = { reference: 'latest', owner, fromHost: undefined };
  if (expected === undefined) {
    await assert.rejects(openWanted(store, wish, ctx), /no snapshot of stack/, about);
    return;
  }
  await using source = await openWanted(store, wish, ctx);
  assert.equal(source.summary.id, expected.id, about);
  const restored = await collect(source.open('store/content', ctx.signal));
  assert.ok(restored.equals(expected.content), about);
}

/** Exactly what the rules of each keep is there. */
async function requireAll(store: SnapshotStore, machines: readonly Machine[], about: string): Promise<void> {
  const there = (await store.list(ctx)).map(({ id }) => id).sort();
  const expected = machines.flatMap(({ snapshots }) => snapshots.map(({ id }) => id)).sort();
  assert.deepEqual(there, expected, about);
}
