import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tars } from '../fixtures/cli.ts';

let directory: string;
let script: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tars-completion-'));
  await writeFile(join(directory, 'notes.yaml'), '');
  const { exitCode, stdout, stderr } = await tars(['completion', 'bash']);
  assert.equal(exitCode, 0, stderr);
  script = join(directory, 'completion.bash');
  await writeFile(script, stdout);
});
after(() => rm(directory, { recursive: true, force: true }));

/** What bash offers for the last of `words`. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const line = ['tars', ...words];
  const ask = `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tars; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await execa('bash', ['-c', ask, script, ...line], { cwd: directory });
  return stdout.split('\n').filter((word) => word !== '');
}

test('bash completes verbs, their options, choices and files', async () => {
  assert.deepEqual(await offered('sna'), ['snapshots']);
  assert.deepEqual(await offered('--json', 'restore', '--dry'), ['--dry-run']);
  assert.deepEqual(await offered('backup', '--compression', 'z'), ['zstd']);
  assert.deepEqual(await offered('--config', 'no'), ['notes.yaml']);
  assert.deepEqual(await offered('--config', 'notes.yaml', 'unl'), ['unlock']);
  assert.deepEqual(await offered('check', '--dry'), [], 'an option of another verb');
  assert.deepEqual(await offered('completion', 'f'), ['fish']);
});

test('bash takes no verb for a directory of its name, and offers verbs before options', async () => {
  await mkdir(join(directory, 'backup'));
  await mkdir(join(directory, 'notes'));
  const typed = async (line: string): Promise<string> => {
    // Only a shell that someone types into completes: what it makes of the line is what it echoes.
    const input = `stty cols 200; . ${script}; PS1=; cd ${directory}\ntars ${line}\t\u0001echo "<\u0005>"\nexit\n`;
    const { stdout } = await execa(
      'script',
      ['--quiet', '--command', 'bash --norc --noprofile -i', '/dev/null'],
      {
        input,
        env: { TERM: 'xterm', SHELL: '/bin/bash' },
      },
    );
    return [...stdout.matchAll(/^<tars (.*)>\r?$/gm)].at(-1)?.[1] ?? stdout;
  };
  assert.equal(await typed('bac'), 'backup ');
  assert.equal(await typed('backup --output-dir bac'), 'backup --output-dir backup/');
  assert.deepEqual(
    (await offered('')).filter((word) => word.startsWith('-')),
    [],
  );
  assert.ok((await offered('-')).includes('--json'));
  assert.ok((await offered('restore', '')).includes('--dry-run'), 'where there is nothing else');
});

for (const shell of ['bash', 'zsh', 'fish'] as const) {
  test(`the script for ${shell} is one that ${shell} can read`, async (t) => {
    const { exitCode: there } = await execa('which', [shell], { reject: false });
    if (there !== 0) {
      t.skip(`${shell} is not installed`);
      return;
    }
    const { stdout } = await tars(['completion', shell]);
    const path = join(directory, `script.${shell}`);
    await writeFile(path, stdout);
    const { exitCode, stderr } = await execa(shell, ['-n', path], { reject: false });
    assert.equal(exitCode, 0, stderr);
  });
}

test('the manual has every verb, and nothing that its formatter warns of', async (t) => {
  const { exitCode: there } = await execa('which', ['groff'], { reject: false });
  if (there !== 0) {
    t.skip('groff is not installed');
    return;
  }
  const { stdout: page } = await execa(process.execPath, ['scripts/man-page.ts'], {
    cwd: join(import.meta.dirname, '../..'),
  });
  const { stdout, stderr } = await execa('groff', ['-man', '-Tutf8', '-ww', '-'], { input: page });
  assert.equal(stderr, '');
  // Bold is overstruck.
  const text = stdout.replaceAll(/.\u0008/g, '');
  const { stdout: help } = await tars(['--help']);
  const verbs = [...help.matchAll(/^ {2}([a-z][a-z-]*) /gm)].map(([, verb = '']) => verb);
  assert.ok(verbs.length >= 10, help);
  for (const verb of verbs.filter((name) => name !== 'help'))
    assert.match(text, new RegExp(`^ {3}tars ${verb}\\b`, 'm'), verb);
});

test('the client of the Engine, which is large, is not loaded by what asks no Engine', () => {
  const loaded = Object.keys(createRequire(import.meta.url).cache);
  assert.ok(loaded.some((path) => path.includes('/commander/')));
  assert.deepEqual(
    loaded.filter((path) => path.includes('/dockerode/')),
    [],
  );
});
