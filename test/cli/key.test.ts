import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cliPath, tars, type CliRun } from '../fixtures/cli.ts';
import { systemRestic } from '../fixtures/restic.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

const typed = 'a secret that is typed';
let stack: SmallStack;
let repositoryPath: string;
let keyFile: string;

before(async () => {
  stack = await startSmallStack();
  repositoryPath = join(stack.root, 'repository');
  keyFile = join(stack.root, 'key');
});
after(() => stack[Symbol.asyncDispose]());

const key = (args: readonly string[], env: Record<string, string> = {}): Promise<CliRun> =>
  tars(['--config', stack.settingsPath, 'key', ...args], { env });

/** What stock restic sees with the password in this file. */
async function resticKeys(passwordFile: string): Promise<readonly string[]> {
  const { stdout } = await execa(systemRestic.path, ['--no-cache', 'key', 'list', '--json'], {
    env: { RESTIC_REPOSITORY: repositoryPath, RESTIC_PASSWORD_FILE: passwordFile },
  });
  return (JSON.parse(stdout) as { id: string; current: boolean }[]).map(
    ({ id, current }) => `${id.slice(0, 8)} ${current}`,
  );
}

const questions = ['New password', 'The same again'];

/**
 * Runs `tars key ARGS` on a terminal that does not tell its size, as a serial console, and types `answers`, one at each
 * question.
 */
async function onTerminal(args: readonly string[], answers: readonly string[]): Promise<CliRun> {
  const words = [process.execPath, cliPath, '--config', stack.settingsPath, 'key', ...args];
  const command = `exec ${words.map((word) => `'${word}'`).join(' ')}`;
  const child = execa('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    reject: false,
    // A question that does not come is waited for no longer.
    timeout: 120_000,
    env: { NO_COLOR: '1', TERM: 'xterm', SHELL: '/bin/sh', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
    buffer: false,
  });
  let shown = '';
  let asked = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    if (!shown.includes(questions[asked] ?? '\0')) return;
    child.stdin.write(answers[asked] ?? '');
    asked++;
  });
  const ended = once(child.stdout, 'end');
  const { exitCode } = await child;
  await ended;
  return { exitCode, stdout: shown, stderr: '' };
}

test('a key is added, opens the repository in both tools, and is removed', async () => {
  const second = join(stack.root, 'second');
  await writeFile(second, 'a second password\n', { mode: 0o600 });
  const added = await key(['add', '--new-password-file', second, '--json']);
  assert.equal(added.exitCode, 0, added.stderr);
  const { id } = JSON.parse(added.stdout) as { id: string };
  assert.ok((await resticKeys(second)).includes(`${id.slice(0, 8)} true`));
  const listed = await key(['list']);
  const rows = listed.stdout.split('\n').slice(1);
  assert.equal(rows.length, 2);
  assert.match(rows.find((row) => !row.startsWith(id.slice(0, 8))) ?? '', /^[0-9a-f]{8} {2}yes /);

  const inUse = await key(['remove', id], { TARS_PASSWORD_FILE: second });
  assert.equal(inUse.exitCode, 1);
  assert.match(inUse.stderr, /in use/);
  const removed = await key(['remove', id.slice(0, 8)]);
  assert.equal(removed.exitCode, 0, removed.stderr);
  const outside = await key(['list'], { TARS_PASSWORD_FILE: second });
  assert.equal(outside.exitCode, 12);
  assert.equal((await resticKeys(keyFile)).length, 1);
});

test('the password is changed, and what is printed puts it where tars looks for it', async () => {
  const before = await readFile(keyFile);
  const fresh = join(stack.root, 'fresh');
  await writeFile(fresh, 'a fresh password\n', { mode: 0o600 });
  const { exitCode, stdout, stderr } = await key(['passwd', '--new-password-file', fresh]);
  assert.equal(exitCode, 0, stderr);
  assert.equal((await key(['list'])).exitCode, 12);
  await execa('sh', ['-euc', /^ +(install .*)$/m.exec(stdout)?.[1] ?? assert.fail(stdout)]);
  const listed = JSON.parse((await key(['list', '--json'])).stdout) as unknown[];
  assert.equal(listed.length, 1);
  await writeFile(join(stack.root, 'old'), before, { mode: 0o600 });
  await assert.rejects(resticKeys(join(stack.root, 'old')), /wrong password or no key found/);
  assert.equal((await resticKeys(keyFile)).length, 1);
});

test('on a terminal the new password is asked twice and never shown', async () => {
  const differing = await onTerminal(['add'], [`${typed}\r`, 'another\r']);
  assert.equal(differing.exitCode, 1, differing.stdout);
  assert.match(differing.stdout, /two passwords differ/);
  const empty = await onTerminal(['add'], ['\r', '\r']);
  assert.equal(empty.exitCode, 1, empty.stdout);
  assert.match(empty.stdout, /new password is empty/);
  assert.doesNotMatch(empty.stdout, /Repeat it/, 'once is enough to say nothing');
  const interrupted = await onTerminal(['add'], ['\u0003']);
  assert.equal(interrupted.exitCode, 130, interrupted.stdout);
  const added = await onTerminal(['add'], [`${typed}\r`, `${typed}\r`]);
  assert.equal(added.exitCode, 0, added.stdout);
  for (const { stdout } of [differing, interrupted, added]) assert.doesNotMatch(stdout, /secret/);
  const file = join(stack.root, 'typed');
  await writeFile(file, typed, { mode: 0o600 });
  assert.equal((await resticKeys(file)).length, 2);
});

test('without a terminal and without a file, or with an empty one, nothing is changed', async () => {
  const unasked = await key(['passwd']);
  assert.equal(unasked.exitCode, 1);
  assert.match(unasked.stderr, /--new-password-file FILE/);
  const empty = join(stack.root, 'empty');
  await writeFile(empty, '\n');
  const { exitCode, stderr } = await key(['passwd', '--new-password-file', empty]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /new password is empty/);
  assert.equal((await key(['list'])).exitCode, 0);
});
