import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import pg from 'pg';
import { composeStack } from '../../src/composition/index.ts';
import { addRecords, ensureCollection } from '../../src/demo/chroma-api.ts';
import { loadPassages } from '../../src/demo/corpus.ts';
import { embed } from '../../src/demo/embedding.ts';
import { connectRedis, loadStack } from '../../src/demo/load.ts';
import { lastAcknowledged, observe, observeVisits, type Observation } from '../../src/demo/observe.ts';
import { demoDatabase, type DemoStack } from '../../src/demo/stack.ts';
import { startTestStack } from '../fixtures/postgres-cluster.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { processState } from '../fixtures/processes.ts';

/** Every other one is aimed at the pause of the writer; the rest may hit anything. */
const kills = counted(2, 50);
/** Chroma keeps up to 1,000 in its log alone; a campaign has an index as well. */
const passages = counted(300, 1500);
const pauseMaxMs = 5000;
/** What a loaded machine may take to write one visit. */
const visitTimeoutMs = 20_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const visitsSoFar = async (demo: DemoStack): Promise<number> =>
  (await readFile(demo.ledgerFile, 'utf8').catch(() => '')).split('\n').length - 1;

interface Kill {
  /** Whether the writer was paused just before. */
  readonly whilePaused: boolean;
  readonly where: string;
}

/** Starts a backup and kills it after `delayMs`, or, without, as soon as the writer is paused. */
async function killBackup(demo: DemoStack, writerPid: number, delayMs: number | undefined): Promise<Kill> {
  const child = execa(process.execPath, [cliPath, '--config', demo.settingsPath, 'backup'], {
    reject: false,
    all: true,
  });
  const ended = new AbortController();
  void child.then(() => ended.abort());
  const startedMs = performance.now();
  const isPaused = async (): Promise<boolean> => (await processState(writerPid)) === 'T';
  const isTime = async (): Promise<boolean> =>
    delayMs === undefined ? isPaused() : performance.now() - startedMs >= delayMs;
  while (!ended.signal.aborted && !(await isTime())) await pause(1);
  // What was seen to be paused is killed without another look, which a busy machine takes too late.
  const whilePaused = delayMs === undefined ? !ended.signal.aborted : await isPaused();
  child.kill('SIGKILL');
  await child;
  const after = `${Math.round(performance.now() - startedMs)} ms`;
  const aim = delayMs === undefined ? 'aimed at the pause, ' : '';
  return { whilePaused, where: `${aim}killed after ${after}, seed ${campaignSeed}` };
}

/** The writer is let go within the longest pause allowed, and writes again. Returns how long it was held. */
async function writerGoesOn(demo: DemoStack, writerPid: number): Promise<number> {
  const startedMs = performance.now();
  while ((await processState(writerPid)) === 'T') {
    assert.ok(performance.now() < startedMs + pauseMaxMs, 'the writer is still paused');
    await pause(1);
  }
  const heldMs = performance.now() - startedMs;
  const before = await visitsSoFar(demo);
  while ((await visitsSoFar(demo)) <= before) {
    assert.ok(performance.now() < startedMs + visitTimeoutMs, `the writer stands still at visit ${before}`);
    await pause(5);
  }
  return heldMs;
}

/** One thing more in every store, so that the first snapshot and the last differ everywhere. */
async function addToEveryStore(demo: DemoStack): Promise<void> {
  const { host, port, user, password } = demo.postgres;
  const client = new pg.Client({ host, port, user, password, database: demoDatabase });
  await client.connect();
  await client.query('UPDATE analytics.passages SET words = words + 1');
  await client.end();
  const redis = connectRedis(demo);
  await redis.set('later', 'yes');
  await redis.quit();
  const text = 'There are certain queer times and occasions in this strange mixed affair we call life';
  const collection = await ensureCollection(demo.chroma.url, 'passages');
  await addRecords(demo.chroma.url, collection, [
    { id: 'later', document: text, embedding: embed(text), metadata: { chapter: 49, book: 'Moby-Dick' } },
  ]);
}

/** What the stores hold; the nearest passages are left out, since the index is approximate. */
async function content(demo: DemoStack): Promise<Omit<Observation, 'answers'>> {
  const { answers, ...rest } = await observe(demo);
  assert.ok(answers.length > 0);
  return rest;
}

test(`kill -9 of ${kills} backups loses nothing, whatever the moment (seed ${campaignSeed})`, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-kill-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const ctx = testContext();
  await using demo = await startTestStack(root, ctx);
  await loadStack(demo, (await loadPassages()).slice(0, passages));
  const command = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await tars(['--config', demo.settingsPath, ...args]);
    assert.equal(exitCode, 0, `tars ${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const restic = async (...args: string[]): Promise<string> => {
    const env = { RESTIC_PASSWORD_FILE: join(root, 'tars-recovery.key') };
    const argv = ['-r', demo.repositoryPath, '--no-cache', ...args];
    const { exitCode, all, stdout } = await execa('restic', argv, { env, reject: false, all: true });
    assert.equal(exitCode, 0, all);
    return stdout;
  };
  await command('init');
  const key = await readFile(join(root, 'tars-recovery.key'), 'utf8');
  await cheapenKey(demo.repositoryPath, key.trim());
  const stack = await composeStack(await loadSettings(demo.settingsPath, {}), { includeModels: true });
  await stack.runtime.start('backend', ctx);
  const writerPid = Number.parseInt(await readFile(join(root, 'backend.pid'), 'utf8'), 10);
  const contents = [await content(demo)];
  const startedMs = performance.now();
  await command('backup');
  const wholeMs = performance.now() - startedMs;

  const random = seededRandom(campaignSeed);
  let [hits, heldMaxMs] = [0, 0];
  for (let round = 0; round < kills; round++) {
    // Something new each time, so that there are packs to interrupt.
    await writeFile(demo.configFile, `${await readFile(demo.configFile, 'utf8')}ROUND_${round}=${round}\n`);
    const kill = await killBackup(demo, writerPid, round % 2 === 0 ? undefined : random() * wholeMs);
    try {
      heldMaxMs = Math.max(heldMaxMs, await writerGoesOn(demo, writerPid));
      await command('unlock');
      await restic('check');
    } catch (error) {
      assert.fail(`${String(error)}; kill ${round}, ${kill.where}`);
    }
    if (kill.whilePaused) hits++;
  }
  t.diagnostic(
    `${hits} of ${kills} kills while the writer was paused, held for up to ${Math.round(heldMaxMs)} ms more`,
  );
  // Pauses are longer than the time between two looks, but a loaded machine may miss some.
  assert.ok(hits >= kills / 4, `only ${hits} of ${kills} kills hit the pause`);

  await addToEveryStore(demo);
  contents.push(await content(demo));
  assert.notDeepEqual(contents[1], contents[0]);
  await command('backup');
  await stack.runtime.stop('backend', ctx);
  const blobs = (await restic('list', 'blobs')).trim().split('\n');
  assert.equal(new Set(blobs).size, blobs.length, 'no blob that an index knew was stored again');
  await restic('check', '--read-data');

  const snapshots = (JSON.parse(await command('snapshots', '--json')) as { id: string; time: string }[]).sort(
    (a, b) => (a.time < b.time ? -1 : 1),
  );
  const ends = [snapshots[0]!, snapshots.at(-1)!];
  assert.notEqual(ends[0]?.id, ends[1]?.id);
  for (const [end, { id, time }] of ends.entries()) {
    await demo.destroy();
    await demo.replaceHardware();
    await command('restore', id, '--yes');
    assert.deepEqual(await content(demo), contents[end], `snapshot ${id}`);
    const visits = await observeVisits(demo);
    const acknowledged = await lastAcknowledged(demo, time);
    assert.ok(visits.gapless && visits.torn === 0 && acknowledged > 0, JSON.stringify(visits));
    const last = [visits.postgres, visits.redis, visits.chroma];
    assert.ok(Math.min(...last) >= acknowledged, `${last.join()}, ${acknowledged} were acknowledged`);
    assert.ok(Math.max(...last) - Math.min(...last) <= 1, `the stores disagree: ${last.join()}`);
  }
});
