import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Finding } from '../../src/model/finding.ts';
import {
  parsePruneLimits,
  pruneRepository,
  type PruneOutcome,
} from '../../src/operations/retention/prune.ts';
import { campaignSeed, counted } from '../fixtures/campaign.ts';
import { testContext } from '../fixtures/context.ts';
import { RepositoryDirectory } from '../fixtures/repositories.ts';
import { stockRestics, systemRestic, type StockRestic } from '../fixtures/restic.ts';
import { forgetSnapshot, linkedCopy, packBytes, SnapshotHistory } from '../fixtures/snapshot-history.ts';

const snapshots = counted(12, 200);
const rounds = counted(2, 50);
const mebibyte = 1 << 20;
const sizes = {
  pagesBytes: counted(6, 24) * mebibyte,
  modelBytes: counted(3, 20) * mebibyte,
  modelLife: counted(3, 7),
};
/** Largest difference of the bytes freed. */
const tolerance = 0.02;

async function prune(directory: RepositoryDirectory, maxUnused: string): Promise<PruneOutcome> {
  await using store = await directory.store();
  return await pruneRepository(store, parsePruneLimits({ maxUnused }), { dryRun: false }, testContext());
}

/**
 * Since 0.19 packs below 3.2 MiB are small, and repacked whatever else may stay unused; before, those below
 * 0.64 MiB, unless it is told to have packs of 4 MiB and to repack what is smaller than 80% of that.
 */
function sameSmallPacks(stock: StockRestic): readonly string[] {
  return stock.isAtLeast(19) ? [] : ['--repack-small', '--pack-size', '4'];
}

/** Of a check of every byte. */
async function findings(directory: RepositoryDirectory): Promise<readonly Finding[]> {
  await using store = await directory.store();
  return (await store.check({ readData: true }, testContext())).findings;
}

describe(`prune of ${snapshots} snapshots beside stock restic (seed ${campaignSeed})`, () => {
  let origin: RepositoryDirectory;
  const history = new SnapshotHistory(sizes, campaignSeed);

  before(async () => {
    origin = await RepositoryDirectory.created();
    await using store = await origin.store();
    const ids: string[] = [];
    for (let i = 0; i < snapshots; i++) ids.push(await history.publish(store));
    for (const [i, id] of ids.entries()) if (i % 4 !== 3) await forgetSnapshot(origin, id);
  });
  after(() => origin[Symbol.asyncDispose]());

  for (const maxUnused of ['5%', '0', 'unlimited']) {
    test(`as much is freed with --max-unused ${maxUnused}`, async (t) => {
      await using ours = await linkedCopy(origin);
      const beforeBytes = await packBytes(ours);
      const { plan, done } = await prune(ours, maxUnused);
      const freedBytes = beforeBytes - (await packBytes(ours));
      assert.equal(done?.freedBytes, freedBytes);
      // Headers of packs that get fewer are not foreseen.
      assert.ok(Math.abs(plan.freedBytes - freedBytes) <= freedBytes * tolerance);
      await using store = await ours.store();
      assert.equal(await history.verify(store), snapshots / 4);
      assert.deepEqual(await findings(ours), []);
      for (const stock of stockRestics) {
        await using theirs = await linkedCopy(origin, stock);
        await theirs.restic(['prune', '--max-unused', maxUnused, ...sameSmallPacks(stock)]);
        const theirBytes = beforeBytes - (await packBytes(theirs));
        t.diagnostic(
          `of ${beforeBytes} bytes ${freedBytes} were freed, by restic ${stock.version} ${theirBytes} (${((freedBytes / theirBytes - 1) * 100).toFixed(2)}%)`,
        );
        assert.ok(Math.abs(freedBytes - theirBytes) <= theirBytes * tolerance, `${freedBytes} ${theirBytes}`);
        if (maxUnused !== '5%') continue;
        await ours.restic(['check', '--read-data'], { stock });
        assert.deepEqual(await findings(theirs), []);
      }
    });
  }
});

test(`both tools take turns on one repository for ${rounds} rounds without a finding`, async () => {
  await using directory = await RepositoryDirectory.stock(systemRestic, 2);
  const history = new SnapshotHistory(
    { pagesBytes: 2 * mebibyte, modelBytes: 3 * mebibyte, modelLife: 3 },
    campaignSeed,
  );
  const source = join(directory.root, 'source');
  await mkdir(source);
  for (let round = 0; round < rounds; round++) {
    const stock = stockRestics[round % stockRestics.length] ?? systemRestic;
    const restic = (...args: string[]): Promise<Buffer> => directory.restic(args, { stock });
    await writeFile(join(source, 'log'), `round ${round}\n`.repeat(20_000 + round));
    await writeFile(join(source, `only-${round}`), `only in round ${round}\n`.repeat(1000));
    const backups = [
      () => restic('backup', source),
      async () => {
        await using store = await directory.store();
        await history.publish(store);
      },
    ];
    for (const backup of round % 2 === 0 ? backups : backups.toReversed()) await backup();
    await restic('forget', '--group-by', 'paths', '--keep-last', '2');
    if (round % 3 === 1) await restic('prune', '--max-unused', '0');
    else await prune(directory, round % 2 === 0 ? '0' : '5%');
    await using store = await directory.store();
    assert.deepEqual(await findings(directory), [], `round ${round}, restic ${stock.version}`);
    for (const { id, stack } of await store.list(testContext())) {
      assert.ok(stack === undefined || history.published.has(id));
    }
    await restic('check', '--read-data');
  }
});
