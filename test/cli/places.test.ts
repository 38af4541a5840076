import assert from 'node:assert/strict';
import { execa } from 'execa';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cliPath, tars } from '../fixtures/cli.ts';
import { eventually } from '../fixtures/processes.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

const mib = 1 << 20;
const root = { skip: process.getuid?.() !== 0 };
const nobody = 65_534;
/** Whatever else runs on this machine is not looked at. */
const noDocker = { DOCKER_HOST: 'unix:///nonexistent/docker.sock' };
let stack: SmallStack;
before(async () => {
  stack = await startSmallStack();
});
after(() => stack[Symbol.asyncDispose]());

const at = (...names: string[]): string => join(stack.root, ...names);

/** A model store with one model of random weights. */
async function writeModels(path: string, sizeBytes: number): Promise<void> {
  const weights = randomBytes(sizeBytes);
  const digest = createHash('sha256').update(weights).digest('hex');
  const manifests = join(path, 'manifests', 'registry.ollama.ai', 'library', 'tiny');
  await mkdir(manifests, { recursive: true });
  await mkdir(join(path, 'blobs'));
  await writeFile(join(path, 'blobs', `sha256-${digest}`), weights);
  const mediaType = 'application/vnd.docker.distribution.manifest.v2+json';
  const layer = (type: string) => ({ mediaType: type, digest: `sha256:${digest}`, size: sizeBytes });
  const config = layer('application/vnd.docker.container.image.v1+json');
  const layers = [layer('application/vnd.ollama.image.model')];
  await writeFile(join(manifests, 'latest'), JSON.stringify({ schemaVersion: 2, mediaType, config, layers }));
}

test(
  'a full repository disk ends the backup, publishes nothing, and room makes it whole again',
  root,
  async () => {
    const repository = at('small-disk');
    await mkdir(repository);
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', repository]);
    try {
      await writeModels(at('models'), 8 * mib);
      const args = await stack.changed({
        repository: { path: join(repository, 'r'), password_file: 'key' },
        components: { ollama: { path: 'models', models: 'all' }, config: { files: ['app.env'] } },
      });
      assert.equal((await tars([...args, 'init'])).exitCode, 0);
      const full = await tars([...args, 'backup']);
      assert.equal(full.exitCode, 1, full.stderr);
      assert.match(full.stderr, /\[ERROR\] .*no space left.*\n {8}\S/i);
      assert.doesNotMatch(full.stderr, /\n {4}at /);
      assert.equal((await tars([...args, 'snapshots', '--json'])).stdout, '[]');
      assert.deepEqual(await readdir(join(repository, 'r', 'locks')), []);
      await execa('mount', ['-o', 'remount,size=40m', repository]);
      assert.equal((await tars([...args, 'backup'])).exitCode, 0);
      assert.equal((await tars([...args, 'check', '--read-data'])).exitCode, 0);
    } finally {
      await execa('umount', [repository]);
    }
  },
);

test('an unprivileged run names the file it may not read, and the home it may not write', root, async () => {
  const home = at('home');
  await mkdir(home, { mode: 0o555 });
  const theirs = at('theirs');
  await mkdir(theirs);
  await cp(at('repository'), join(theirs, 'repository'), { recursive: true });
  await cp(at('key'), join(theirs, 'key'));
  await execa('chown', ['-R', String(nobody), theirs]);
  await chmod(stack.root, 0o755);
  await writeFile(at('secret.env'), 'A=1\n', { mode: 0o600 });
  const args = await stack.changed({
    repository: { path: 'theirs/repository', password_file: 'theirs/key' },
    scratch_dir: 'theirs/scratch',
    state_dir: undefined,
    components: { config: { files: ['app.env'] }, hidden: { kind: 'config', files: ['secret.env'] } },
  });
  await chown(args[1] ?? '', nobody, nobody);
  const asUser = ['-u', 'nobody', '--', 'env', `HOME=${home}`];
  const asNobody = (...verb: string[]) =>
    execa('runuser', [...asUser, process.execPath, cliPath, ...args, ...verb], {
      reject: false,
      stdin: 'ignore',
      env: { NO_COLOR: '1', XDG_STATE_HOME: undefined, TARS_CONFIG: undefined },
    });
  const backup = await asNobody('backup');
  assert.equal(backup.exitCode, 2, backup.stderr);
  assert.match(backup.stdout, /hidden +failed .*secret\.env/);
  assert.match(backup.stdout, /hidden: \S/, 'what to do');
  await rm(stack.appEnv);
  const restore = await asNobody('restore', '--component', 'config', '--yes');
  assert.equal(restore.exitCode, 1);
  assert.match(restore.stderr, new RegExp(`\\[ERROR\\] .*${home}.*\n {8}.*state_dir`));
  assert.ok(!existsSync(stack.appEnv));
  for (const { stdout, stderr } of [backup, restore]) assert.doesNotMatch(stdout + stderr, /\n {4}at /);
  await writeFile(stack.appEnv, 'LOG_LEVEL=info\n');
});

test('an archive for a directory that cannot be created is an error, and not tried for ever', async () => {
  // A directory that is there and answers ENOENT to new entries, as an automounter does whose server is away.
  const args = [cliPath, '--config', stack.settingsPath, 'backup', '--output-dir', '/proc/tars/archives'];
  const cut = { timeout: 120_000, killSignal: 'SIGKILL', env: { NO_COLOR: '1' } } as const;
  const { exitCode, stderr } = await execa(process.execPath, args, { ...cut, reject: false });
  assert.equal(exitCode, 1, stderr);
  assert.match(stderr, /\[ERROR\] Cannot write archives to \/proc\/tars\/archives: ENOENT/);
});

test('a state or scratch directory, settings and a key that cannot be created are not tried for ever', async () => {
  const cut = { timeout: 60_000, killSignal: 'SIGKILL', env: { NO_COLOR: '1' }, cwd: stack.root } as const;
  const run = async (...args: string[]): Promise<{ exitCode?: number; stderr: string }> =>
    execa(process.execPath, [cliPath, ...args], { ...cut, reject: false });
  const stateless = await run(...(await stack.changed({ state_dir: '/proc/tars/state' })), 'backup');
  assert.equal(stateless.exitCode, 0, stateless.stderr);
  assert.match(stateless.stderr, /\[WARN\] Cannot record the run in \/proc\/tars\/state\S+: ENOENT/);
  const args = await stack.changed({ scratch_dir: '/proc/tars/scratch' });
  const unspooled = await run(...args, 'backup', '--output-dir', at('archives'));
  assert.equal(unspooled.exitCode, 1, unspooled.stderr);
  assert.match(
    unspooled.stderr,
    /\[ERROR\] Cannot create a scratch directory in \/proc\/tars\/scratch: ENOENT/,
  );
  const unset = await run('--config', '/proc/tars/tars.yaml', 'init', '--repository', at('unset'));
  assert.equal(unset.exitCode, 1, unset.stderr);
  assert.match(unset.stderr, /\[ERROR\] Cannot write \/proc\/tars\/tars\.yaml: ENOENT/);
  const keyFile = ['--key-file', '/proc/tars/key', '--repository', at('unset')];
  const keyless = await run('--config', at('unset.yaml'), 'init', ...keyFile);
  assert.equal(keyless.exitCode, 1, keyless.stderr);
  assert.match(keyless.stderr, /\[ERROR\] Cannot write the recovery key \/proc\/tars\/key: ENOENT/);
});

test('the beginning of two snapshot ids is refused, and says to give more of it', async () => {
  const args = ['--config', stack.settingsPath];
  const { exitCode: taken, stderr: said } = await tars([...args, 'backup']);
  assert.equal(taken, 0, said);
  const [id = ''] = await readdir(at('repository', 'snapshots'));
  const twin = at('repository', 'snapshots', id.slice(0, 8) + '0'.repeat(56));
  await writeFile(twin, '');
  try {
    for (const verb of ['show', 'restore']) {
      const { exitCode, stderr } = await tars([...args, verb, id.slice(0, 8)]);
      assert.equal(exitCode, 1);
      assert.match(stderr, /the beginning of 2 snapshot ids\n {8}Give more digits/);
    }
    const whole = await tars([...args, 'show', id]);
    assert.equal(whole.exitCode, 0, whole.stderr);
  } finally {
    await rm(twin);
  }
});

test('a password command that hangs is ended by Ctrl-C at once, with what it ran', async () => {
  const pidFile = at('command.pid');
  const command = ['sh', '-c', `echo $$ > '${pidFile}'; exec sleep 600`];
  const args = await stack.changed({ repository: { path: 'repository', password_command: command } });
  const child = execa(process.execPath, [cliPath, ...args, 'snapshots'], {
    reject: false,
    stdin: 'ignore',
    env: { NO_COLOR: '1', TARS_CONFIG: undefined, TARS_PASSWORD: undefined },
  });
  await eventually('the command runs', async () =>
    /^\d+\n$/.test(await readFile(pidFile, 'utf8').catch(() => '')),
  );
  child.kill('SIGINT');
  const { exitCode, stderr } = await child;
  assert.equal(exitCode, 130, stderr);
  assert.match(stderr, /Interrupted/);
  const pid = Number(await readFile(pidFile, 'utf8'));
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test(
  'nothing is written to the place of a disk that /etc/fstab names and that is not mounted',
  root,
  async () => {
    const disk = at('usb');
    await mkdir(disk);
    await writeFile(
      at('fstab'),
      `${await readFile('/etc/fstab', 'utf8')}\nUUID=f00 ${disk} ext4 noauto 0 2\n`,
    );
    const args = await stack.changed({ repository: { path: join(disk, 'tars'), password_file: 'key' } });
    const keyThere = await stack.changed({
      repository: { path: 'elsewhere', password_file: join(disk, 'key') },
    });
    const inNamespace = async (words: readonly string[], where: readonly string[] = args) => {
      const script = `mount --bind '${at('fstab')}' /etc/fstab && exec "$@"`;
      const argv = ['--mount', 'sh', '-c', script, '-', process.execPath, cliPath, ...where, ...words];
      return execa('unshare', argv, { reject: false, env: { NO_COLOR: '1', ...noDocker } });
    };
    const refused = [
      [['init', '--yes'], args],
      [['init', '--yes'], keyThere],
      [
        ['init', '--yes', '--repository', at('elsewhere'), '--key-file', at('elsewhere.key')],
        ['--config', join(disk, 'tars.yaml')],
      ],
      [['backup', '--output-dir', join(disk, 'archives')], args],
      [['key', 'export', '--output', join(disk, 'kit.txt')], args],
    ] as const;
    for (const [words, where] of refused) {
      const { exitCode, stderr } = await inNamespace(words, where);
      assert.equal(exitCode, 1, stderr);
      assert.match(
        stderr,
        /\[ERROR\] The disk of .* is not mounted: \/etc\/fstab mounts it at .*usb\n +Mount it: mount /,
      );
      assert.deepEqual(await readdir(disk), []);
      assert.ok(!existsSync(at('elsewhere')), words.join(' '));
    }
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
    try {
      const { exitCode, stderr } = await inNamespace(['init', '--yes']);
      assert.equal(exitCode, 0, stderr);
    } finally {
      await execa('umount', [disk]);
    }
  },
);

test('an address of another kind creates no directory of its name, and is not repeated', async () => {
  const directory = at('addresses');
  await mkdir(directory);
  for (const args of [
    ['init', '--repository', 's3:https://key:sesame@host/bucket'],
    ['init', '--yes', '--repository', 'rest:http://bob:sesame@host/'],
    [...(await stack.changed({})), 'backup', '--output-dir', 'sftp:bob@sesame:/srv'],
  ]) {
    const { exitCode, stderr } = await tars(args, { cwd: directory });
    assert.equal(exitCode, 1);
    assert.match(stderr, /(s3|rest|sftp): addresses are not supported yet\n +Mount that place/);
    assert.doesNotMatch(stderr, /sesame/);
  }
  assert.deepEqual(await readdir(directory), []);
});

test(
  'a user without HOME and without an entry in the password database can do everything',
  root,
  async () => {
    const home = at('homeless');
    await mkdir(join(home, 'scratch'), { recursive: true });
    await writeFile(join(home, 'app.env'), 'LOG_LEVEL=info\n');
    await writeFile(join(home, 'key'), 'long enough\n', { mode: 0o600 });
    const settings = (more: string): string =>
      `version: 1\nstack: homeless\nrepository: { path: repo, password_file: key }\nscratch_dir: scratch\n${more}components: { config: { files: [app.env] } }\n`;
    await writeFile(join(home, 'tars.yaml'), settings('state_dir: state\n'), { mode: 0o600 });
    const uid = '54321';
    await execa('chown', ['-R', `${uid}:${uid}`, home]);
    await chmod(stack.root, 0o711);
    const as = async (...args: string[]) =>
      execa(
        'setpriv',
        [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', process.execPath, cliPath, ...args],
        { cwd: home, env: { PATH: process.env['PATH'] ?? '' }, extendEnv: false, reject: false },
      );
    for (const verb of ['init', 'backup', 'status']) {
      const { exitCode, stderr } = await as(verb);
      assert.equal(exitCode, 0, `${verb}: ${stderr}`);
    }
    await writeFile(join(home, 'tars.yaml'), settings(''));
    const { exitCode, stderr } = await as('status');
    assert.equal(exitCode, 1);
    assert.match(stderr, /no state_dir, and HOME is not set\n +Add to .*: state_dir: \/var\/lib\/tars/);
  },
);
