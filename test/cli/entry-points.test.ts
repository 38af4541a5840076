import assert from 'node:assert/strict';
import { execa } from 'execa';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { cliPath, tars } from '../fixtures/cli.ts';

const deploy = join(import.meta.dirname, '../../deploy');
let directory: string;
let program: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tars-entry-'));
  program = join(directory, 'bin/tars');
  await mkdir(join(directory, 'bin'));
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${cliPath}' "$@"\n`);
  await chmod(program, 0o755);
  await writeFile(join(directory, 'key'), 'quite-long-enough\n', { mode: 0o600 });
  await writeFile(join(directory, 'app.env'), 'LOG_LEVEL=info\n');
  const settings = {
    version: 1,
    stack: 'small',
    repository: { path: 'repository', password_file: 'key' },
    state_dir: 'state',
    components: { config: { files: ['app.env'] } },
  };
  await writeFile(join(directory, 'tars.yaml'), stringify(settings), { mode: 0o600 });
  const { exitCode, stderr } = await tars(['init'], { cwd: directory });
  assert.equal(exitCode, 0, stderr);
});
after(() => rm(directory, { recursive: true, force: true }));

/** Of the run of all tests: without it each process compiles tars anew. */
const { NODE_COMPILE_CACHE: cache = '' } = process.env;
const compileCache = { NODE_COMPILE_CACHE: cache };

const run = (name: string, args: readonly string[], env: Readonly<Record<string, string>>) =>
  execa(join(deploy, name), args, {
    ...{ reject: false, cwd: directory, stdin: 'ignore' as const, extendEnv: false },
    env: { HOME: directory, NO_COLOR: '1', ...compileCache, ...env },
  });

test('the familiar scripts back up and restore, wherever tars is found', async () => {
  const path = '/usr/bin:/bin';
  const archive = await run('backup-tars.sh', ['--output-dir', 'out dir', '--skip-postgres'], {
    ...{ PATH: path, TARS: program },
  });
  assert.equal(archive.exitCode, 0, archive.stderr);
  const [file = ''] = (await readdir(join(directory, 'out dir'))).sort();
  await rm(join(directory, 'app.env'));
  const args = ['--backup-file', join('out dir', file), '--component', 'config', '--force'];
  const back = await run('restore-tars.sh', args, { PATH: `${join(directory, 'bin')}:${path}` });
  assert.equal(back.exitCode, 0, back.stderr);
  // An archive holds what may be shown; it goes beside the true file's place.
  const [restored = ''] = (await readdir(directory)).filter((name) => name.startsWith('app.env.redacted'));
  assert.equal(await readFile(join(directory, restored), 'utf8'), 'LOG_LEVEL=info\n');
  await rename(join(directory, restored), join(directory, 'app.env'));
});

test('old archives go by the rules on the cron line, once the new one is there', async () => {
  const args = ['--output-dir', 'kept', '--keep-last', '2'];
  const env = { PATH: '/usr/bin:/bin', TARS: program };
  for (const foreign of ['tars-backup-notes.tar.gz', 'tars-backup-20200101_000000.tar.gz']) {
    await mkdir(join(directory, 'kept'), { recursive: true });
    await writeFile(join(directory, 'kept', foreign), 'not one of ours');
  }
  for (const count of [1, 2, 2]) {
    const { exitCode, stderr } = await run('backup-tars.sh', args, env);
    assert.equal(exitCode, 0, stderr);
    const names = await readdir(join(directory, 'kept'));
    assert.equal(names.filter((name) => name.endsWith('.sha256')).length, count);
    assert.equal(names.length, 2 * count + 2, 'what is not ours stays');
  }
});

test('their exit codes are those of tars', async () => {
  const wrong = { PATH: '/usr/bin:/bin', TARS: program, TARS_PASSWORD: 'another one' };
  assert.equal((await run('backup-tars.sh', [], wrong)).exitCode, 12);
  assert.equal((await run('restore-tars.sh', ['--force'], wrong)).exitCode, 12);
});

test('without a tars anywhere they say so', async (t) => {
  const { exitCode: installed } = await execa(
    'sh',
    ['-c', 'PATH=/usr/local/bin:/usr/bin:/bin; command -v tars'],
    {
      reject: false,
    },
  );
  if (installed === 0) {
    t.skip('this machine has one');
    return;
  }
  const alone = join(directory, 'alone', 'deploy');
  await cp(deploy, alone, { recursive: true });
  const { exitCode, stderr } = await execa(join(alone, 'backup-tars.sh'), {
    ...{ reject: false, extendEnv: false, env: { PATH: '/usr/bin:/bin' } },
  });
  assert.equal(exitCode, 1);
  assert.match(stderr, /Found no tars: install it/);
});
