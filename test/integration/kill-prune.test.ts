import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'yaml';
import { parsePruneLimits, pruneRepository } from '../../src/operations/retention/prune.ts';
import { campaignSeed, counted, isCampaign, seededRandom } from '../fixtures/campaign.ts';
import { cliPath } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { password, RepositoryDirectory } from '../fixtures/repositories.ts';
import { forgetSnapshot, linkedCopy, packBytes, SnapshotHistory } from '../fixtures/snapshot-history.ts';

const kills = counted(2, 50);
const mebibyte = 1 << 20;
/** So long a lock waits for others to show before anything is done under it. */
const settleMs = 200;
const sizes = { pagesBytes: counted(8, 40) * mebibyte, modelBytes: counted(4, 30) * mebibyte, modelLife: 2 };

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Names of all indexes and packs. */
async function filesOf({ path }: RepositoryDirectory): Promise<ReadonlySet<string>> {
  const folders = ['index', 'data'];
  const names = await Promise.all(folders.map((folder) => readdir(join(path, folder), { recursive: true })));
  return new Set(names.flat().filter((name) => /[0-9a-f]{64}/.test(name)));
}

interface Run {
  readonly child: { kill(signal: 'SIGKILL'): boolean };
  readonly ended: Promise<{ readonly exitCode: number | undefined; readonly all: string }>;
  /** Resolves when it has locked the repository, or has ended. */
  readonly locked: Promise<void>;
}

function startPrune(directory: RepositoryDirectory, settingsPath: string): Run {
  const child = execa(process.execPath, [cliPath, '--config', settingsPath, 'prune', '--max-unused', '0'], {
    ...{ reject: false, all: true, stdin: 'ignore' },
    env: { TARS_PASSWORD: password, NO_COLOR: '1' },
  });
  let isRunning = true;
  const ended = child.then(({ exitCode, all }) => {
    isRunning = false;
    return { exitCode, all };
  });
  const waitForLock = async (): Promise<void> => {
    while (isRunning && (await readdir(join(directory.path, 'locks'))).length === 0) await pause(1);
  };
  return { child, ended, locked: waitForLock() };
}

async function writeSettings(directory: RepositoryDirectory, scratch: string): Promise<string> {
  const settingsPath = join(directory.root, 'tars.yaml');
  const settings = {
    ...{ version: 1, stack: 'lab', scratch_dir: scratch, state_dir: join(directory.root, 'state') },
    repository: { path: directory.path },
    components: { config: { files: ['none.env'] } },
  };
  await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
  return settingsPath;
}

test(`kill -9 of ${kills} prunes loses no snapshot, whatever the moment (seed ${campaignSeed})`, async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'tars-kill-prune-'));
  t.after(() => rm(scratch, { recursive: true, force: true }));
  await using origin = await RepositoryDirectory.created();
  const history = new SnapshotHistory(sizes, campaignSeed);
  {
    await using store = await origin.store();
    for (let i = 0; i < 8; i++) {
      const id = await history.publish(store);
      if (i % 3 !== 1) await forgetSnapshot(origin, id);
    }
  }
  const startFiles = await filesOf(origin);

  let wholeMs: number;
  let cleanBytes: number;
  {
    await using copy = await linkedCopy(origin);
    const run = startPrune(copy, await writeSettings(copy, scratch));
    await run.locked;
    const lockedMs = performance.now();
    const { exitCode, all } = await run.ended;
    assert.equal(exitCode, 0, all);
    wholeMs = performance.now() - lockedMs;
    cleanBytes = await packBytes(copy);
    assert.ok(cleanBytes < (await packBytes(origin)));
  }

  const random = seededRandom(campaignSeed);
  let [midway, killed] = [0, 0];
  // Those that ended before are not counted; they tell how long a prune takes by now.
  for (let round = 0; killed < kills; round++) {
    assert.ok(round < kills * 10, `only ${killed} of ${round} prunes were still running`);
    await using copy = await linkedCopy(origin);
    const run = startPrune(copy, await writeSettings(copy, scratch));
    await run.locked;
    const lockedMs = performance.now();
    const delayMs = settleMs + random() * (wholeMs - settleMs);
    await Promise.race([pause(delayMs), run.ended]);
    const tookMs = performance.now() - lockedMs;
    const wasRunning = run.child.kill('SIGKILL');
    await run.ended;
    if (!wasRunning) {
      wholeMs = tookMs;
      continue;
    }
    killed++;
    const files = await filesOf(copy);
    if (!isDeepStrictEqual(files, startFiles)) midway++;
    try {
      await using store = await copy.store();
      assert.equal(await history.verify(store), 3);
      // Whoever meets the lock removes it.
      await (await store.open('latest', undefined, testContext()))[Symbol.asyncDispose]();
      await copy.restic(['check', ...(round % 5 === 0 ? ['--read-data'] : [])]);
      const limits = parsePruneLimits({ maxUnused: '0' });
      await pruneRepository(store, limits, { dryRun: false }, testContext());
      assert.equal(await history.verify(store), 3);
      assert.deepEqual((await store.check({ readData: true }, testContext())).findings, []);
      assert.ok(Math.abs((await packBytes(copy)) / cleanBytes - 1) < 0.01, 'something was left over');
    } catch (cause) {
      throw new Error(`Kill ${round}, ${Math.round(delayMs)} ms after the lock`, { cause });
    }
  }
  t.diagnostic(
    `${midway} of ${killed} that were killed had changed something; a whole one takes ${Math.round(wholeMs)} ms`,
  );
  if (isCampaign) assert.ok(midway >= kills / 5, `only ${midway} of ${kills} kills hit a change`);
});
