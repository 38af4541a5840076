import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { execa } from 'execa';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runLogOf } from '../../src/composition/index.ts';
import { loadSettings } from '../../src/composition/settings.ts';
import { cliPath, tars } from '../fixtures/cli.ts';
import { startSmallStack, type SmallStack } from '../fixtures/small-stack.ts';

let stack: SmallStack;
let out: string;
before(async () => {
  stack = await startSmallStack();
  out = join(stack.root, 'out');
  await mkdir(out);
});
after(() => stack[Symbol.asyncDispose]());

interface Manifest {
  readonly files: readonly { readonly path: string; readonly from: string }[];
  readonly omitted: readonly { readonly what: string; readonly why: string }[];
}

/** The whole text of an archive, and the names in it without its folder, by stock tar. */
async function opened(path: string): Promise<{ readonly text: string; readonly names: readonly string[] }> {
  const [{ stdout: text }, { stdout: names }] = await Promise.all([
    execa('tar', ['xOf', path]),
    execa('tar', ['tf', path]),
  ]);
  return { text, names: names.split('\n').map((name) => name.replace(/^[^/]*\//, '')) };
}

const manifestOf = (stdout: string): Manifest => (JSON.parse(stdout) as { manifest: Manifest }).manifest;
const whyOf = ({ omitted }: Manifest, what: string): string =>
  omitted.find((omission) => omission.what === what)?.why ??
  `nothing of ${what} in ${JSON.stringify(omitted)}`;

test('a bundle tells how a stack stands, and is for its owner alone until he posts it', async () => {
  const compose = join(stack.root, 'compose.yaml');
  const log = join(stack.root, 'backend.log');
  await writeFile(
    compose,
    'services:\n  db:\n    image: postgres:15\n    environment: {POSTGRES_PASSWORD: in-Compose-77}\n',
  );
  await writeFile(join(stack.root, '.env'), 'LOG_LEVEL=debug\nAPP_TOKEN=in-Env-file-88\n');
  await writeFile(log, 'INFO started\nERROR in-Env-file-88 was refused\n');
  const config = await stack.changed({
    components: { config: { files: ['app.env', 'compose.yaml'] } },
    services: { backend: { log_file: 'backend.log', start: ['true'], stop: ['true'] } },
  });
  const runs = runLogOf(await loadSettings(config[1], {}));
  const error = { code: 'subprocess', message: 'pg_dump: password=in-Compose-77 was refused' };
  runs
    .begin({ verb: 'backup', options: [] }, new Date())
    .finish({ exitCode: 1, outcome: 'failed', error }, new Date());
  const path = join(out, 'whole.tar.gz');
  const { exitCode, stdout, stderr } = await tars([...config, 'support-bundle', '--output', path]);
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, /^doctor\.json +\d/m);
  assert.match(stdout, /whole\.tar\.gz \(.*\) holds \d+ files, with secrets redacted/);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const { text, names } = await opened(path);
  for (const name of [
    'README.txt',
    'manifest.json',
    'versions.json',
    'doctor.json',
    'status.json',
    'runs.json',
    'places.json',
    'repository/files.json',
    'repository/snapshots.json',
    'configuration/compose.yaml',
    'configuration/dot.env',
    'logs/backend/backend.log.log',
  ])
    assert.ok(names.includes(name), `${name} of ${names.join(' ')}`);
  assert.doesNotMatch(text, /in-Compose-77|in-Env-file-88|a password for these tests/);
  for (const ordinary of [
    /image: postgres:15/,
    /LOG_LEVEL=debug/,
    /APP_TOKEN=\[redacted\]/,
    /stack: small/,
    /"host": "/,
    /pg_dump: password=\[redacted\] was refused/,
    /ERROR \[redacted\] was refused/,
  ])
    assert.match(text, ordinary);
  assert.deepEqual((await readdir(out)).sort(), ['whole.tar.gz']);
  await rm(path);
});

test('nothing is overwritten, a dry run writes nothing, and a name has to end well', async () => {
  const path = join(out, 'mine.tar.gz');
  await writeFile(path, 'mine');
  const args = ['--config', stack.settingsPath, '--json', 'support-bundle'];
  const refused = await tars([...args, '-o', path]);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /mine\.tar\.gz already exists/);
  assert.equal(await readFile(path, 'utf8'), 'mine');
  const dry = await tars([...args, '--dry-run', '-o', join(out, 'dry.tar.gz')]);
  assert.equal(dry.exitCode, 0, dry.stderr);
  assert.ok(manifestOf(dry.stdout).files.some(({ path: name }) => name === 'doctor.json'));
  const odd = await tars([...args, '-o', join(out, 'odd.zip')]);
  assert.match(odd.stderr, /ends in \.tar\.gz or \.tar\.zst/);
  assert.deepEqual(await readdir(out), ['mine.tar.gz']);
  await rm(path);
});

test('without a tars.yaml, with a broken one, and where it cannot be written', async () => {
  const bundle = async (name: string, config: string): Promise<readonly [Manifest, string]> => {
    const path = join(out, name);
    const { exitCode, stdout, stderr } = await tars([
      '--config',
      config,
      '--json',
      'support-bundle',
      '-o',
      path,
    ]);
    assert.equal(exitCode, 0, stderr);
    const { text } = await opened(path);
    await rm(path);
    return [manifestOf(stdout), text];
  };
  const [none] = await bundle('none.tar.gz', join(stack.root, 'nowhere.yaml'));
  assert.match(whyOf(none, 'tars.yaml'), /There is none/);
  assert.match(whyOf(none, 'status, runs, repository, containers and logs'), /nowhere\.yaml/);
  const broken = join(stack.root, 'broken.yaml');
  await writeFile(broken, 'version: 1\nstack: broken\nrepository: {password: in-Broken-66\n  host: "x\n', {
    mode: 0o600,
  });
  const [, text] = await bundle('broken.tar.zst', broken);
  assert.doesNotMatch(text, /in-Broken-66/);
  assert.match(text, /stack: broken/);
  const { exitCode, stderr } = await tars([
    '--config',
    stack.settingsPath,
    'support-bundle',
    '-o',
    join(out, 'no/such/x.tar.gz'),
  ]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /Cannot write .*no\/such\/x\.tar\.gz/);
});

test('without a repository, with a wrong password, and with an Engine that is down', async () => {
  const bundle = async (change: Record<string, unknown>): Promise<Manifest> => {
    const path = join(out, 'partly.tar.gz');
    const config = await stack.changed(change);
    const { exitCode, stdout, stderr } = await tars([...config, '--json', 'support-bundle', '-o', path]);
    assert.equal(exitCode, 0, stderr);
    await rm(path);
    return manifestOf(stdout);
  };
  await writeFile(join(stack.root, 'wrong'), 'another password\n', { mode: 0o600 });
  const [gone, wrong, down] = [
    await bundle({ repository: { path: 'gone', password_file: 'key' } }),
    await bundle({ repository: { path: 'repository', password_file: 'wrong' } }),
    await bundle({ docker: { project: 'nobody', host: 'unix:///nonexistent/docker.sock' } }),
  ];
  assert.match(whyOf(gone, 'snapshots'), /no repository/i);
  assert.match(whyOf(wrong, 'snapshots'), /password/i);
  assert.ok(wrong.files.some(({ path }) => path === 'repository/files.json'));
  assert.match(whyOf(down, 'containers'), /Docker Engine does not answer/);
  assert.ok(down.files.some(({ path }) => path === 'repository/snapshots.json'));
});

test('a bundle that is interrupted or killed leaves nothing that says anything', async () => {
  const password = join(stack.root, 'slow-password');
  // Its password comes from a program that tells when it was asked, and never answers.
  const pipe = join(stack.root, 'asked');
  await execa('mkfifo', [pipe]);
  await writeFile(password, `#!/bin/sh\necho asked > ${pipe}\nexec sleep 1000\n`, { mode: 0o700 });
  const config = await stack.changed({ repository: { path: 'repository', password_command: [password] } });
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const child = spawn(
      process.execPath,
      [cliPath, ...config, 'support-bundle', '-o', join(out, 'cut.tar.gz')],
      {
        stdio: 'ignore',
        detached: true,
      },
    );
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    await readFile(pipe, 'utf8');
    if (signal === 'SIGINT') child.kill(signal);
    // With the program that it waits for.
    else process.kill(-(child.pid ?? 0), signal);
    const [exitCode, how] = await ended;
    assert.ok(signal === 'SIGINT' ? exitCode === 130 : how === signal, `${exitCode ?? ''} ${how ?? ''}`);
    assert.deepEqual(await readdir(out), []);
  }
});

test('its default name has the stack in it, and it lies where one is', async () => {
  const { exitCode, stderr } = await tars(['--config', stack.settingsPath, 'support-bundle'], { cwd: out });
  assert.equal(exitCode, 0, stderr);
  const [name = '', ...others] = await readdir(out);
  assert.match(name, /^tars-support-small-\d{8}_\d{6}\.tar\.gz$/);
  assert.deepEqual(others, []);
});
