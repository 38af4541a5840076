import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { access, chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { acquireLock } from '../../src/repository/lock/lock.ts';
import { openRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';

const password = 'a password for these tests';
let root: string;
let settingsPath: string;
let settings: Record<string, unknown>;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-surroundings-'));
  settingsPath = join(root, 'tars.yaml');
  await writeFile(join(root, 'key'), `${password}\n`, { mode: 0o600 });
  await writeFile(join(root, 'app.env'), 'LOG_LEVEL=info\n');
  settings = {
    version: 1,
    stack: 'small',
    repository: { path: 'repository', password_file: 'key' },
    scratch_dir: root,
    state_dir: 'state',
    components: { config: { files: ['app.env'] } },
  };
  await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
  const { exitCode, stderr } = await tars(['--config', settingsPath, 'init']);
  assert.equal(exitCode, 0, stderr);
});
after(() => rm(root, { recursive: true, force: true }));

/** Writes a tars.yaml that differs from the sound one, and returns the arguments that name it. */
async function withSettings(change: Record<string, unknown>, mode = 0o600): Promise<string[]> {
  const path = join(root, `changed-${Math.random().toString(36).slice(2)}.yaml`);
  await writeFile(path, stringify({ ...settings, ...change }), { mode });
  await chmod(path, mode);
  return ['--config', path];
}

const start = (args: readonly string[]) =>
  execa(process.execPath, [cliPath, '--config', settingsPath, ...args], {
    reject: false,
    stdin: 'ignore',
    env: { TARS_CONFIG: undefined, TARS_PASSWORD: undefined, NO_COLOR: '1' },
  });

test('a reader that goes away changes neither the exit code nor the work', async () => {
  const child = start(['backup']);
  child.stdout.destroy();
  const { exitCode, stderr } = await child;
  assert.equal(exitCode, 0);
  assert.doesNotMatch(stderr, /EPIPE/);
  const { stdout } = await tars(['--config', settingsPath, 'snapshots', '--json']);
  assert.equal((JSON.parse(stdout) as unknown[]).length, 1);
});

test('a result that cannot be written is an error, said without a stack trace', async () => {
  const redirected = ['-c', 'exec "$@" > /dev/full', 'sh', process.execPath, cliPath];
  const { exitCode, stderr } = await execa('sh', [...redirected, '--config', settingsPath, 'snapshots'], {
    reject: false,
    env: { NO_COLOR: '1' },
  });
  assert.equal(exitCode, 1);
  assert.match(stderr, /^\[ERROR\] Cannot write the result.*no space left/);
  assert.doesNotMatch(stderr, /\n {4}at /);
});

test('errors of usage are one JSON line with --json, and [ERROR] with a hint without', async () => {
  for (const args of [['bakcup'], ['backup', '--onyl', 'x'], ['backup', 'extra']]) {
    const json = await tars([...args, '--json']);
    assert.equal(json.exitCode, 1);
    assert.equal(json.stdout, '');
    assert.equal((JSON.parse(json.stderr) as { code: string }).code, 'configuration');
  }
  const { stderr } = await tars(['bakcup']);
  assert.match(stderr, /^\[ERROR\] Unknown command 'bakcup'.*backup.*\n {8}\S/);
});

test('help for a verb that there is not names what is near, as without help', async () => {
  for (const [args, near] of [
    [['help', 'bakcup'], 'backup'],
    [['schedule', 'help', 'instal'], 'install'],
    [['help', 'schedule', 'instal'], 'install'],
  ] as const) {
    const { exitCode, stdout, stderr } = await tars([...args]);
    assert.equal(exitCode, 1);
    assert.equal(stdout, '');
    assert.match(stderr, new RegExp(`^\\[ERROR\\] Unknown command '${args.at(-1)}'.*${near}`));
  }
  const known = await tars(['help', 'schedule', 'install']);
  assert.equal(known.exitCode, 0);
  assert.match(known.stdout, /^Usage: tars schedule install /);
  assert.match((await tars(['help'])).stdout, /^Usage: tars /);
});

test('tars.yaml: errors name the line and never quote it', async () => {
  const path = join(root, 'broken.yaml');
  await writeFile(path, 'version: 1\ncomponents:\n  redis: { password: sesame-open-0123\n  x: [\n');
  const syntax = await tars(['--config', path, 'snapshots']);
  assert.equal(syntax.exitCode, 1);
  assert.match(syntax.stderr, /not valid YAML: line \d+, column \d+/);
  assert.doesNotMatch(syntax.stderr, /sesame/);
  await writeFile(path, `${stringify(settings)}services:\n  app:\n    stop: sesame-open-0123\n    frob: 1\n`);
  const shape = await tars(['--config', path, 'snapshots']);
  const line = stringify(settings).split('\n').length;
  assert.match(shape.stderr, new RegExp(`line ${line + 2}: services\\.app\\.stop must be a list`));
  assert.match(shape.stderr, new RegExp(`line ${line + 3}: services\\.app\\.frob is not a key`));
  assert.doesNotMatch(shape.stderr, /sesame/);
});

test('secrets that every user can read are warned of, once', async () => {
  const open_ = await withSettings({ components: { redis: { password: 'sesame-open-0123' } } }, 0o644);
  const { exitCode, stderr } = await tars([...open_, 'show']);
  assert.equal(exitCode, 0, stderr);
  assert.equal(stderr.match(/\[WARN\] Every user/g)?.length, 1);
  assert.match(stderr, /chmod 600/);
  const named = await withSettings({ components: { redis: { password: '${PW}' } } }, 0o644);
  assert.equal((await tars([...named, 'snapshots'], { env: { PW: 'x' } })).stderr, '');
});

test('a password command that fails says how, without its output', async () => {
  const cases: [string[], RegExp][] = [
    [['sh', '-c', 'echo sesame-open-0123; exit 3'], /repository\.password_command failed with exit code 3/],
    [['true'], /printed nothing/],
    [['no-such-program'], /could not be completed/],
  ];
  for (const [command, expected] of cases) {
    const args = await withSettings({ repository: { path: 'repository', password_command: command } });
    const { exitCode, stderr } = await tars([...args, 'snapshots']);
    assert.equal(exitCode, 1);
    assert.match(stderr, expected);
    assert.doesNotMatch(stderr, /sesame/);
  }
});

test('flags that contradict one another are refused', async () => {
  const cases = [
    ['restore', 'latest', '--backup-file', 'x.tar.gz'],
    ['backup', '--compression', 'zstd'],
    ['backup', '--only', 'config', '--skip', 'config'],
    ['init', '--stack', 'other'],
  ];
  for (const args of cases) {
    const { exitCode, stderr } = await tars(['--config', settingsPath, ...args]);
    assert.equal(exitCode, 1, args.join(' '));
    assert.match(stderr, /^\[ERROR\] .+\n {8}\S/, args.join(' '));
  }
});

test('an init that fails leaves nothing behind', async () => {
  const directory = join(root, 'fresh');
  await mkdir(directory);
  const inside = join(directory, 'tars-repository', 'my.key');
  const { exitCode } = await tars(['init', '--key-file', inside], { cwd: directory });
  assert.equal(exitCode, 1);
  assert.deepEqual(await readdir(directory), []);
});

test('a repository that another process holds exclusively exits 11, and is left alone', async () => {
  const ctx = testContext();
  const repository = await openRepository(createLocalStorage(join(root, 'repository')), password, ctx);
  await using _lock = await acquireLock(repository, { exclusive: true }, ctx);
  const { exitCode, stderr } = await tars(['--config', settingsPath, 'backup']);
  assert.equal(exitCode, 11, stderr);
  assert.match(stderr, /tars unlock/);
  assert.equal((await readdir(join(root, 'repository', 'locks'))).length, 1);
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} in the middle of a backup exits 130, and its lock is gone`, async () => {
    // A store that takes connections and never answers keeps the backup in its preparation.
    const silent = createServer();
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const args = await withSettings({ components: { redis: { port }, config: { files: ['app.env'] } } });
    try {
      const child = start([...args, 'backup']);
      await once(silent, 'connection');
      assert.equal((await readdir(join(root, 'repository', 'locks'))).length, 1);
      child.kill(signal);
      const { exitCode, stderr } = await child;
      assert.equal(exitCode, 130, stderr);
      assert.match(stderr, /Interrupted/);
      assert.deepEqual(await readdir(join(root, 'repository', 'locks')), []);
    } finally {
      silent.close();
    }
  });
}

test('a repository on a disk that is not mounted exits 10', async () => {
  const args = await withSettings({ repository: { path: 'not-mounted/repository', password_file: 'key' } });
  const { exitCode, stderr } = await tars([...args, 'backup']);
  assert.equal(exitCode, 10);
  assert.match(stderr, /not-mounted/);
  await assert.rejects(access(join(root, 'not-mounted')), 'nothing was created in its place');
});

test('output that goes into a file has no control characters', async () => {
  for (const args of [['backup'], ['show'], ['check', '--read-data'], ['verify']]) {
    const { stdout, stderr } = await tars(['--config', settingsPath, ...args], {
      env: { LC_ALL: 'de_DE.UTF-8' },
    });
    assert.doesNotMatch(`${stdout}${stderr}`, /[^\n\x20-\x7e]/, args.join(' '));
  }
  assert.equal(await readFile(join(root, 'app.env'), 'utf8'), 'LOG_LEVEL=info\n');
});
