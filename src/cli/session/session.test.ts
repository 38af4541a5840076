import assert from 'node:assert/strict';
import { Command } from 'commander';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { journalOf } from '../../composition/index.ts';
import { loadSettings } from '../../composition/settings.ts';
import { InterruptedError, TarsError } from '../../model/errors.ts';
import { runVerb, type Session } from './session.ts';

interface Run {
  readonly exitCode: number;
  readonly stderr: string;
}

/** Runs `work` as a verb, and interrupts it as soon as stderr shows `interruptAt`. */
async function run(
  work: (session: Session, interrupt: () => void) => Promise<number>,
  config?: string,
  interruptAt?: string,
): Promise<Run> {
  const abort = new AbortController();
  let exitCode = -1;
  let text = '';
  const stderr = new PassThrough();
  stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    if (interruptAt !== undefined && text.includes(interruptAt)) abort.abort();
  });
  const cli = {
    env: {},
    stdout: new PassThrough() as unknown as NodeJS.WriteStream,
    stderr: stderr as unknown as NodeJS.WriteStream,
    stdin: new PassThrough() as unknown as NodeJS.ReadStream,
    signal: abort.signal,
    json: false,
    setExitCode: (code: number) => void (exitCode = code),
  };
  const program = new Command('tars').option('--config <file>');
  const verb = program
    .command('verify')
    .action((_flags: object, command: Command) =>
      runVerb(command, cli, (session) => work(session, () => abort.abort())),
    );
  assert.equal(verb.name(), 'verify');
  const options = config === undefined ? [] : ['--config', config];
  await program.parseAsync([...options, 'verify'], { from: 'user' });
  return { exitCode, stderr: text };
}

/** A `tars.yaml` with a restore that was cut off and cannot be put back, since its component is gone. */
async function cutOff(t: TestContext): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tars-session-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const config = join(root, 'tars.yaml');
  const text =
    'version: 1\nstack: s\nrepository: { path: r }\nstate_dir: .\nscratch_dir: .\ncomponents: {}\n';
  await writeFile(config, text, { mode: 0o600 });
  const record = { component: 'gone', kind: 'config', wayBack: ['mv a b'], details: {} };
  const journal = journalOf(await loadSettings(config, {}));
  // The end of the claim is that of the process that restored.
  await using _claim = await journal.claim();
  await journal.write({
    ...{ restoreId: 'r1', stack: 's', snapshot: 'abc', startedAt: '2026-11-24T01:00:00Z' },
    ...{ components: ['gone'], phase: 'swapping', stopped: [], offline: [], records: [record] },
  });
  return config;
}

const lost = /The configuration no longer has gone, whose restore must be undone/;

test('a cut-off restore that cannot be put back is a warning, and the verb does its work', async (t) => {
  const { exitCode, stderr } = await run(
    async (session) => {
      await session.settings();
      return 0;
    },
    await cutOff(t),
  );
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /Restore r1 of snapshot abc was interrupted/);
  assert.match(stderr, lost);
});

test('an interruption while a cut-off restore is put back ends the verb before its work', async (t) => {
  let worked = false;
  const work = async (session: Session): Promise<number> => {
    await session.settings();
    worked = true;
    return 0;
  };
  const { exitCode, stderr } = await run(work, await cutOff(t), 'was interrupted (phase');
  assert.deepEqual([exitCode, worked], [130, false], stderr);
  assert.doesNotMatch(stderr, lost);
});

test('after an interruption only an error that says how things are left is reported', async () => {
  const failing = (error: TarsError) =>
    run((_session, interrupt) => {
      interrupt();
      return Promise.reject(error);
    });
  const left = await failing(new TarsError('restore-failed', 'The data of redis could not be put back'));
  assert.equal(left.exitCode, 1);
  assert.match(left.stderr, /The data of redis could not be put back/);
  const said = await failing(new InterruptedError('Interrupted; nothing was changed'));
  assert.equal(said.exitCode, 130);
  assert.match(said.stderr, /Interrupted; nothing was changed/);
  const consequence = await failing(new TarsError('storage-failed', 'The socket was closed'));
  assert.equal(consequence.exitCode, 130);
  assert.doesNotMatch(consequence.stderr, /socket/);
});
