import { execa } from 'execa';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { composeStack } from '../../src/compose.ts';
import { loadPassages } from '../../src/demo/corpus.ts';
import { loadStack } from '../../src/demo/load.ts';
import { startDemoStack, type DemoStack } from '../../src/demo/stack.ts';
import { loadSettings } from '../../src/settings/load.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const kills = counted(4, 50);
const pauseMaxMs = 5000;

const visitsSoFar = async (demo: DemoStack): Promise<number> =>
  (await readFile(demo.ledgerFile, 'utf8').catch(() => '')).split('\n').length - 1;

async function writerGoesOn(demo: DemoStack): Promise<void> {
  const before = await visitsSoFar(demo);
  const deadlineMs = performance.now() + 2 * pauseMaxMs;
  while ((await visitsSoFar(demo)) <= before) {
    assert.ok(performance.now() < deadlineMs, `the writer stands still at visit ${before}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test(`kill -9 of ${kills} backups at random moments loses nothing (seed ${campaignSeed})`, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-kill-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const ctx = testContext();
  await using demo = await startDemoStack(root, ctx);
  await loadStack(demo, (await loadPassages()).slice(0, 1500));
  const init = await tars(['init', '--config', demo.settingsPath]);
  assert.equal(init.exitCode, 0, init.stderr);
  const stack = await composeStack(await loadSettings(demo.settingsPath, {}), { includeModels: true });
  const restic = (...args: string[]) =>
    execa('restic', ['-r', demo.repositoryPath, '--no-cache', ...args], {
      env: { RESTIC_PASSWORD_FILE: join(root, 'tars-recovery.key') },
      reject: false,
      all: true,
    });
  await stack.runtime.start('backend', ctx);
  t.after(() => stack.runtime.stop('backend', testContext()));
  const startedMs = performance.now();
  const first = await tars(['--config', demo.settingsPath, 'backup', '--json']);
  const wholeMs = performance.now() - startedMs;
  assert.equal(first.exitCode, 0, first.stderr);

  const random = seededRandom(campaignSeed);
  for (let kill = 0; kill < kills; kill++) {
    // Something new each time, so that there are packs to interrupt.
    await writeFile(demo.configFile, `${await readFile(demo.configFile, 'utf8')}ROUND_${kill}=${kill}\n`);
    const delayMs = random() * wholeMs;
    const child = execa(process.execPath, [cliPath, '--config', demo.settingsPath, 'backup'], {
      reject: false,
      all: true,
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), delayMs);
    await child;
    clearTimeout(timer);
    const where = `kill ${kill} after ${Math.round(delayMs)} ms of ${Math.round(wholeMs)}, seed ${campaignSeed}`;
    await writerGoesOn(demo).catch((error: unknown) => assert.fail(`${String(error)}; ${where}`));
    const unlock = await tars(['--config', demo.settingsPath, 'unlock']);
    assert.equal(unlock.exitCode, 0, `${unlock.stderr}; ${where}`);
    const check = await restic('check');
    assert.equal(check.exitCode, 0, `${check.all}; ${where}`);
  }

  const next = await tars(['--config', demo.settingsPath, 'backup', '--json']);
  assert.equal(next.exitCode, 0, next.stderr);
  const blobs = (await restic('list', 'blobs')).stdout.trim().split('\n');
  assert.equal(new Set(blobs).size, blobs.length, 'no blob that an index knew was stored again');
  const full = await restic('check', '--read-data');
  assert.equal(full.exitCode, 0, full.all);
  const listed = JSON.parse((await tars(['--config', demo.settingsPath, 'snapshots', '--json'])).stdout) as {
    id: string;
  }[];
  for (const { id } of listed) {
    const shown = await tars(['--config', demo.settingsPath, 'restore', id, '--dry-run']);
    assert.equal(shown.exitCode, 0, shown.stderr);
  }
});
