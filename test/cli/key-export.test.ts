import assert from 'node:assert/strict';
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { cliPath, tars, type CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { readRecoveryPage } from '../fixtures/recovery-page.ts';

const key = 'of paper & <ink>, 48% "true"';
let root: string;
let repositoryId: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-key-export-'));
  const ctx = testContext();
  const repository = await createWithCheapKey(createLocalStorage(join(root, 'repository')), key, ctx);
  repositoryId = repository.id;
  await writeFile(join(root, 'key'), `${key}\n`, { mode: 0o600 });
  await writeFile(join(root, 'wrong'), 'not it\n', { mode: 0o600 });
  await mkdir(join(root, 'etc'));
  await writeFile(join(root, 'etc', "app's.env"), 'LOG_LEVEL=info\n');
  const settings = {
    ...{ version: 1, stack: 'paper', scratch_dir: '.', state_dir: 'state' },
    repository: { path: 'repository', password_file: 'key' },
    components: { config: { files: ["etc/app's.env"] } },
  };
  await writeFile(join(root, 'tars.yaml'), stringify(settings));
});
after(() => rm(root, { recursive: true, force: true }));

const run = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CliRun> =>
  tars(['--config', join(root, 'tars.yaml'), ...args], { env });
const record = async (): Promise<unknown> =>
  JSON.parse(await readFile(join(root, 'state', 'recovery-kits.json'), 'utf8').catch(() => '{}'));

test('without a terminal the key is printed only when that is asked for', async () => {
  const { exitCode, stdout, stderr } = await run(['key', 'export']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /is printed only on a terminal[^]*--output[^]*--print/);
  assert.ok(!(stdout + stderr).includes(key));
  assert.deepEqual(await record(), {});

  const terminal = await execa(
    'script',
    ['-qec', `${process.execPath} ${cliPath} --config ${root}/tars.yaml key export`, '/dev/null'],
    { stdin: 'ignore' },
  );
  assert.ok(terminal.stdout.includes(key));
});

test('the page is new, for its owner alone, holds what is needed, and its export is remembered', async () => {
  const output = join(root, 'page.txt');
  const early = await run(['key', 'export', '--print']);
  assert.match(early.stdout, /there is no snapshot yet/);
  assert.equal((await run(['backup'])).exitCode, 0);
  const { exitCode, stdout, stderr } = await run(['key', 'export', '--output', output, '--json']);
  assert.equal(exitCode, 0, stderr);
  assert.ok(!(stdout + stderr).includes('ink'), 'the key is in the file only');
  assert.equal((await stat(output)).mode & 0o777, 0o600);
  const text = await readFile(output, 'utf8');
  const page = readRecoveryPage(text);
  const check = createHash('sha256').update(key).digest('hex').slice(0, 8);
  assert.equal(page.head('Recovery key'), key);
  assert.equal(page.head('Its check'), check);
  assert.equal(page.head('Its id'), repositoryId);
  assert.equal(page.head('Repository'), join(root, 'repository'));
  assert.ok(page.steps.some(({ script }) => script.includes(`'${root}/etc/app'\\''s.env'`)));
  const long = text.split('\n').filter((line) => line.length > 80 && !line.includes(root));
  assert.deepEqual(long, []);

  const value = JSON.parse(stdout) as { exportedAt: string; keyId: string; check: string };
  assert.equal(value.check, check);
  assert.deepEqual(await record(), {
    [repositoryId]: { exportedAt: value.exportedAt, keyId: value.keyId, output },
  });

  const again = await run(['key', 'export', '--output', output]);
  assert.equal(again.exitCode, 1);
  assert.match(again.stderr, /already exists and is not replaced/);
  assert.equal(await readFile(output, 'utf8'), text);
});

test('a password that does not open the repository makes no page', async () => {
  const output = join(root, 'wrong.txt');
  const before = await record();
  const { exitCode } = await run(['key', 'export', '--output', output], {
    TARS_PASSWORD_FILE: join(root, 'wrong'),
  });
  assert.equal(exitCode, 12);
  await assert.rejects(stat(output), /ENOENT/);
  assert.deepEqual(await record(), before);
});

test('the page does not go into the repository, and a key that cannot be printed on no page', async () => {
  const inside = await run(['key', 'export', '--output', join(root, 'repository', 'page.txt')]);
  assert.equal(inside.exitCode, 1);
  assert.match(inside.stderr, /would lie inside the repository/);
  await writeFile(join(root, 'tab'), 'a\tb');
  assert.equal((await run(['key', 'add', '--new-password-file', join(root, 'tab')])).exitCode, 0);
  const { exitCode, stderr } = await run(['key', 'export', '--print'], { TARS_PASSWORD: 'a\tb' });
  assert.equal(exitCode, 1);
  assert.match(stderr, /cannot be printed[^]*tars key add/);
});
