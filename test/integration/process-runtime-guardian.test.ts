import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createGuardian } from '../../src/runtimes/guardian/index.ts';
import { createProcessRuntime } from '../../src/runtimes/process/index.ts';
import { testContext } from '../fixtures/context.ts';
import { end, eventually, startWriter } from '../fixtures/processes.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-guardian-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function pausingParent(pidFile: string, pauseMaxMs: number): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../fixtures/pausing-parent.ts', import.meta.url));
  const parent = spawn(process.execPath, [script, pidFile, String(pauseMaxMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(parent.stdout, 'data');
  return parent;
}

/** Guardians whose parent is `pid`. */
async function guardiansOf(pid: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of (await readdir('/proc')).filter((each) => /^\d+$/.test(each))) {
    const [status, command] = await Promise.all(
      ['status', 'cmdline'].map((file) => readFile(`/proc/${name}/${file}`, 'utf8').catch(() => '')),
    );
    if (command?.includes('guardian-main') === true && status?.includes(`PPid:\t${pid}\n`) === true)
      found.push(Number(name));
  }
  return found;
}

const gone = async (pid: number): Promise<boolean> =>
  (await readFile(`/proc/${pid}/stat`).catch(() => null)) === null;

test('kill -9 of the parent: the guardian resumes the writer and its worker long before the pause is over', async () => {
  await using writer = await startWriter(root, 'app', true);
  const parent = await pausingParent(writer.pidFile, 3_600_000);
  assert.ok(await writer.frozen());
  const [guardian = 0, ...others] = await guardiansOf(parent.pid ?? 0);
  assert.deepEqual(others, []);
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) process.kill(guardian, signal);
  assert.ok(await writer.frozen(), 'and signals do not end the guardian');
  await end(parent);
  await writer.ticks();
  await eventually('the guardian has ended', () => gone(guardian));
});

test('a parent that hangs: the guardian resumes the writer after pauseMaxMs, and ends with the parent', async () => {
  await using writer = await startWriter(root, 'app', true);
  const parent = await pausingParent(writer.pidFile, 400);
  parent.kill('SIGSTOP');
  const [guardian = 0] = await guardiansOf(parent.pid ?? 0);
  await writer.ticks();
  await end(parent);
  await eventually('the guardian has ended', () => gone(guardian));
});

test('disarmed in time it has done nothing and says so, once and again', async () => {
  await using writer = await startWriter(root, 'app');
  const runtime = createProcessRuntime({ services: {}, writers: { app: { pidFile: writer.pidFile } } });
  const ctx = testContext();
  const armed = await createGuardian().arm(await runtime.resumeActions(['app'], ctx), 3_600_000, ctx);
  const [guardian = 0] = await guardiansOf(process.pid);
  await runtime.pause(['app'], ctx);
  assert.equal(await armed.disarm(), false);
  assert.equal(await armed.disarm(), false);
  await eventually('the guardian has ended', () => gone(guardian));
  assert.ok(await writer.frozen());
  await runtime.resume(['app']);
  await writer.ticks();
});

test('disarmed too late it says that it has fired; the action of a command is carried out, and retried', async () => {
  const script =
    'const fs = require("fs"); fs.appendFileSync(process.argv[1], "x"); process.exit(fs.statSync(process.argv[1]).size < 3 ? 1 : 0)';
  const mark = join(root, 'mark');
  const action = { kind: 'exec', argv: [process.execPath, '-e', script, mark] } as const;
  const ctx = testContext();
  const armed = await createGuardian().arm([action], 1, ctx);
  await eventually('the third attempt', async () => (await readFile(mark, 'utf8').catch(() => '')) === 'xxx');
  assert.equal(await armed.disarm(), true);
  assert.equal(await readFile(mark, 'utf8'), 'xxx');
});

test('a guardian that was killed makes the pause void', async () => {
  const armed = await createGuardian().arm([], 3_600_000, testContext());
  const [guardian = 0] = await guardiansOf(process.pid);
  process.kill(guardian, 'SIGKILL');
  assert.equal(await armed.disarm(), true);
});
