import assert from 'node:assert/strict';
import type { Command } from 'commander';
import { execa } from 'execa';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { createProgram } from '../../src/cli/program.ts';
import type { CliContext } from '../../src/cli/session/session.ts';
import { demoDatabase } from '../../src/demo/stack.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';
import { startTestStack } from '../fixtures/postgres-cluster.ts';

const child = fileURLToPath(new URL('../fixtures/verbs-child.ts', import.meta.url));

interface Ran {
  readonly args: readonly string[];
  readonly exitCode: number;
  readonly stderr: string;
  /** What is active after it and was not before. */
  readonly left: readonly string[];
}

/** Runs verbs in one process, which has to end by itself. */
async function runInOneProcess(verbs: readonly (readonly string[])[]): Promise<readonly Ran[]> {
  const { stdout, stderr, exitCode, timedOut } = await execa(
    process.execPath,
    [child, JSON.stringify(verbs)],
    { ...{ reject: false, stdin: 'ignore', timeout: 120_000 }, env: { NO_COLOR: '1' } },
  );
  const ran = stdout.split('\n').map((line) => JSON.parse(line) as Ran);
  for (const { args, left } of ran) assert.deepEqual(left, [], args.join(' '));
  assert.ok(!timedOut, 'the process ends by itself');
  assert.equal(exitCode, 0, stderr);
  return ran;
}

/** `key list` for each command that does something. */
function commandsOf(command: Command, above = ''): readonly string[] {
  return command.commands.flatMap((each) => {
    const name = `${above}${each.name()}`;
    if (each.name() === 'help') return [];
    return each.commands.length === 0 ? [name] : commandsOf(each, `${name} `);
  });
}

/** The servers of `demo` are other tests' matter, `daemon` ends when it is told to, and no test has a scheduler. */
const notRun = ['demo', 'daemon', 'schedule install', 'schedule remove', 'schedule status'];

/** Other tests run `tars` in their own process, and end that by force: there, what a verb leaves open is not seen. */
test('no verb leaves anything that keeps its process from ending', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tars-ends-'));
  try {
    await using stack = await startTestStack(root, testContext());
    const { host, port, user, password } = stack.postgres;
    const client = new pg.Client({ host, port, user, password, database: 'postgres' });
    await client.connect();
    await client.query(`CREATE DATABASE ${demoDatabase}`);
    await client.end();
    const key = 'a password for these tests';
    await writeFile(join(root, 'tars-recovery.key'), `${key}\n`, { mode: 0o600 });
    await createWithCheapKey(createLocalStorage(stack.repositoryPath), key, testContext());
    const archives = join(root, 'archives');
    const at = (verbs: readonly (readonly string[])[]) =>
      runInOneProcess(verbs.map((args) => ['--config', stack.settingsPath, ...args]));
    const other = ['--config', join(root, 'other.yaml'), '--repository', join(root, 'other')];
    const first = await at([['init', ...other], ['backup'], ['backup', '--output-dir', archives]]);
    const [archive = ''] = (await readdir(archives)).sort();
    const rest = await at([
      ['check', '--backup-file', join(archives, archive)],
      ['check', '--read-data'],
      ['snapshots'],
      ['show', 'latest'],
      ['verify'],
      ['restore', '--yes', '--discard-previous'],
      ['status'],
      ['doctor'],
      ['forget', '--keep-last', '1', '--yes'],
      ['prune'],
      ['unlock'],
      ['key', 'list'],
      ['key', 'export', '--output', join(root, 'kit.html')],
      ['key', 'add', '--new-password-file', join(root, 'postgres-password')],
      ['support-bundle', '--output', join(root, 'bundle.tar.gz')],
      ['completion', 'bash'],
      // Those that fail end as well.
      ['backup', '--only', 'no-such-component'],
      ['key', 'remove', 'unknown'],
      ['schedule', 'run', '--quiet'],
      ['key', 'passwd', '--new-password-file', join(root, 'no-such-file')],
    ]);
    const ran = [...first, ...rest].map(({ args, ...outcome }) => ({
      ...outcome,
      name: args.slice(2).join(' '),
    }));
    const failed = ran.filter(({ exitCode }) => exitCode !== 0);
    assert.deepEqual(failed, ran.slice(-4), 'the others do their work');
    const all = commandsOf(createProgram({} as CliContext));
    const missing = all.filter((name) => !ran.some((each) => `${each.name} `.startsWith(`${name} `)));
    assert.deepEqual(missing.toSorted(), notRun.toSorted());
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
