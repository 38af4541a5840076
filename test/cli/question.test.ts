import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cliPath, tars } from '../fixtures/cli.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

let stack: SmallStack;
let present: string;

before(async () => {
  stack = await startSmallStack();
  const { exitCode, stderr } = await tars(['--config', stack.settingsPath, 'backup']);
  assert.equal(exitCode, 0, stderr);
  present = 'LOG_LEVEL=debug\n';
  await writeFile(stack.appEnv, present);
});
after(() => stack[Symbol.asyncDispose]());

/** Runs a restore on a terminal of 50 columns, types `keys` at its question and returns what the terminal showed. */
async function answer(
  keys: string,
  term = 'xterm',
): Promise<{ readonly exitCode: number | undefined; readonly shown: string }> {
  const words = [process.execPath, cliPath, '--config', stack.settingsPath, 'restore', '--restore-config'];
  const command = `stty cols 50; exec ${words.map((word) => `'${word}'`).join(' ')}`;
  const child = execa('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    reject: false,
    env: { NO_COLOR: '1', TERM: term, SHELL: '/bin/sh', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
    buffer: false,
  });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const asked = shown.includes('[y/N]');
    shown += text;
    if (!asked && shown.includes('[y/N]')) child.stdin.write(keys);
  });
  const ended = once(child.stdout, 'end');
  const { exitCode } = await child;
  await ended;
  return { exitCode, shown };
}

for (const [name, keys] of Object.entries({ 'Ctrl-C': '\u0003', 'Ctrl-D': '\u0004' })) {
  test(`${name} at the question exits 130, with nothing touched and nothing left`, async () => {
    const { exitCode, shown } = await answer(keys);
    assert.equal(exitCode, 130, shown);
    assert.match(shown, /\[ERROR\] Interrupted; nothing was changed/);
    assert.doesNotMatch(shown, /\n {4}at /);
    assert.equal(await readFile(stack.appEnv, 'utf8'), present);
    assert.deepEqual(await readdir(join(stack.root, 'repository', 'locks')), []);
  });
}

test('no answer but yes is a yes', async () => {
  for (const keys of ['n\r', '\r', 'maybe\r']) {
    const { exitCode, shown } = await answer(keys);
    assert.equal(exitCode, 1, shown);
    assert.match(shown, /Nothing was restored or changed/);
    assert.equal(await readFile(stack.appEnv, 'utf8'), present);
  }
});

test('a terminal that knows no control sequences gets none, and can be left', async () => {
  const left = await answer('ye\u0003', 'dumb');
  assert.equal(left.exitCode, 130, left.shown);
  assert.doesNotMatch(left.shown, /\u001b/);
  assert.match(left.shown, /\[y\/N\] ye/);
  assert.match(left.shown, /\[ERROR\] Interrupted; nothing was changed/);
});

test('the lines of the plan are broken between words, where the terminal would break them anywhere', async () => {
  const { shown } = await answer('n\r');
  const plan = shown.split(/\r*\n/).filter((line) => line.startsWith('    '));
  assert.ok(
    plan.some((line) => line.startsWith('    - ')) && plan.some((line) => /^ {6}\S/.test(line)),
    shown,
  );
  for (const line of plan) assert.ok(line.length <= 50 || !line.slice(6, 50).includes(' '), line);
});

test('help is broken between words on a narrow terminal', async () => {
  const command = `stty cols 60; exec '${process.execPath}' '${cliPath}' backup --help`;
  const env = { NO_COLOR: '1', TERM: 'xterm', SHELL: '/bin/sh' };
  const { stdout } = await execa('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env,
  });
  const [options = ''] = stdout.split('With --keep-last');
  for (const line of options.split(/\r*\n/)) assert.ok(line.length <= 60, line);
});

test('yes restores, and names the file with the way back', async () => {
  const { exitCode, shown } = await answer('yes\r');
  assert.equal(exitCode, 0, shown);
  assert.equal(await readFile(stack.appEnv, 'utf8'), 'LOG_LEVEL=info\n');
  const path = /also in\s+(\S+):/.exec(shown)?.[1] ?? '';
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => !line.startsWith('#'));
  await execa('sh', ['-euc', lines.join('\n')]);
  assert.equal(await readFile(stack.appEnv, 'utf8'), present);
});
