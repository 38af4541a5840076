import { execa } from 'execa';
import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile, open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { cliPath } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { otherThan, startRestoreStack, type RestoreStack, type Side } from '../fixtures/restore-stack.ts';

let stack: RestoreStack;
let live: Side = 'b';

before(async () => {
  stack = await startRestoreStack();
});
after(() => stack[Symbol.asyncDispose]());

const restore = (side: Side, ...flags: string[]) =>
  stack.run(['restore', stack.snapshots[side], '--yes', '--restore-config', ...flags]);

async function unchanged(where: string): Promise<void> {
  assert.deepEqual((await stack.leftovers()).staged, [], where);
  assert.deepEqual(await stack.pending(), [], where);
  const { side, said } = await stack.liveSide(where);
  assert.equal(side, live, where);
  assert.doesNotMatch(said, /was interrupted/, where);
}

interface ServiceSettings {
  start?: readonly string[];
  command?: readonly string[];
}

/** Runs with other services than those in tars.yaml. */
async function withServices(
  change: (services: Record<string, ServiceSettings>) => void,
  work: () => Promise<void>,
): Promise<void> {
  const { settingsPath } = stack.demo;
  const text = await readFile(settingsPath, 'utf8');
  const settings = parse(text) as { services: Record<string, ServiceSettings> };
  change(settings.services);
  await writeFile(settingsPath, stringify(settings));
  try {
    await work();
  } finally {
    await writeFile(settingsPath, text);
  }
}

test('without a terminal and without --yes nothing happens', async () => {
  const aside = await stack.leftovers();
  const { exitCode, stderr } = await stack.run(['restore', stack.snapshots.a]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /no terminal to ask/);
  assert.deepEqual(await stack.leftovers(), aside);
  assert.deepEqual(await stack.down(), []);
});

test('a damaged snapshot is refused before anything is touched', async () => {
  const data = join(stack.demo.repositoryPath, 'data');
  const packs = (await readdir(data, { recursive: true, withFileTypes: true })).filter((e) => e.isFile());
  for (const pack of packs) {
    const path = join(pack.parentPath, pack.name);
    const good = await readFile(path);
    const bad = Buffer.from(good);
    const at = bad.length >> 1;
    bad[at] = (bad[at] ?? 0) ^ 1;
    await chmod(path, 0o600);
    await writeFile(`${path}.bad`, bad);
    await rename(path, `${path}.good`);
    await rename(`${path}.bad`, path);
  }
  const { exitCode, stderr } = await restore('a');
  for (const pack of packs) {
    const path = join(pack.parentPath, pack.name);
    await rename(`${path}.good`, path);
  }
  assert.equal(exitCode, 1, stderr);
  assert.doesNotMatch(stderr, /Stopping|Starting/);
  await unchanged(stderr);
});

test('a server that does not start on the restored data gets its previous data back', async () => {
  const once = join(stack.demo.root, 'refused-once');
  await withServices(
    ({ redis }) => {
      assert.ok(redis?.start);
      const script = `[ -e '${once}' ] && exec "$@"; : > '${once}'; echo 'cannot load'; exit 1`;
      redis.start = ['sh', '-c', script, 'sh', ...redis.start];
    },
    async () => {
      const { exitCode, stderr } = await restore('a');
      assert.equal(exitCode, 1, stderr);
      assert.match(
        stderr,
        /the previous data was put back: Cannot start redis: sh ended with 1: cannot load/,
      );
      assert.deepEqual(await stack.down(), []);
    },
  );
  await rm(once);
  await unchanged('a server that did not start');
});

test('a server that never starts again: the previous data is back, what is down is said', async () => {
  await withServices(
    ({ redis }) => {
      assert.ok(redis);
      redis.start = ['sh', '-c', 'exit 7'];
    },
    async () => {
      const { exitCode, stderr } = await restore('a');
      assert.equal(exitCode, 1, stderr);
      assert.match(stderr, /the previous data was put back, but: redis does not run/);
      assert.deepEqual(await stack.down(), ['redis']);
    },
  );
  await stack.demo.redis.start();
  await unchanged('a server that never started');
});

test('a second restore at the same time is refused, the first one goes on', async () => {
  const gate = join(stack.demo.root, 'gate');
  await execa('mkfifo', [gate]);
  await withServices(
    ({ redis }) => {
      assert.ok(redis?.start);
      redis.start = ['sh', '-c', `read -r _ < '${gate}'; exec "$@"`, 'sh', ...redis.start];
    },
    async () => {
      const first = restore('a');
      // Opening for writing returns once the first one's start command reads: its swap is done.
      const opened = open(gate, 'a');
      const second = await stackIsBusy();
      assert.match(second, /A tars restore of \S+ is running in another process \(pid \d+, since 20/);
      const writer = await opened;
      await writer.writeFile('go\n');
      await writer.close();
      const { exitCode, stderr } = await first;
      assert.equal(exitCode, 0, stderr);
    },
  );
  live = 'a';
  await unchanged('two at once');
});

/** What a restore says as soon as the first one has noted itself. */
async function stackIsBusy(): Promise<string> {
  while ((await stack.pending()).length === 0) await new Promise((resolve) => setImmediate(resolve));
  const { exitCode, stderr } = await restore('b');
  assert.equal(exitCode, 11, stderr);
  return stderr;
}

test('--component restores that one alone', async () => {
  const { exitCode, stderr } = await restore(otherThan(live), '--component', 'ollama,config');
  assert.equal(exitCode, 0, stderr);
  assert.doesNotMatch(stderr, /Stopping redis/);
  const { errors } = await stack.verify(otherThan(live));
  assert.deepEqual([...new Set(errors.map(({ subject }) => subject.split('/')[0]))].sort(), [
    'chroma',
    'postgres',
    'redis',
  ]);
  assert.equal((await restore(live, '--component', 'ollama,config')).exitCode, 0);
  await unchanged('one component there and back');
});

test('the way back that is printed, run by a shell, brings the previous data back', async () => {
  const { exitCode, stdout, stderr } = await restore(otherThan(live));
  assert.equal(exitCode, 0, stderr);
  // Indented twice, below the name of their component.
  const lines = stdout.split('\n').filter((line) => line.startsWith('    '));
  const inServer = lines.filter((line) => line.startsWith('    psql'));
  const offline = lines.filter((line) => !line.startsWith('    psql'));
  assert.ok(inServer.length > 0 && offline.length > 0);
  const shell = (script: string) =>
    execa('sh', ['-euc', script], { env: { PGPASSWORD: stack.demo.postgres.password } });
  const { runtime } = stack.stack;
  const context = testContext();
  for (const service of ['backend', 'chroma', 'redis']) await runtime.stop(service, context);
  await shell(inServer.join('\n'));
  await shell(offline.join('\n'));
  for (const service of ['redis', 'chroma', 'backend']) await runtime.start(service, context);
  const { side } = await stack.liveSide('the way back');
  assert.equal(side, live);
  const moved = await stack.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datname LIKE '%\\_tars\\_new\\_%'`,
    'postgres',
  );
  assert.equal(moved.length, 1);
  for (const { name } of moved) await stack.query(`DROP DATABASE ${name}`, 'postgres');
});

test('--discard-previous deletes the previous data of this restore once it is compared', async () => {
  const known = new Set((await stack.leftovers()).previous);
  const { exitCode, stdout, stderr } = await restore(otherThan(live), '--discard-previous');
  assert.equal(exitCode, 0, stderr);
  assert.doesNotMatch(stdout, /undo the restore/);
  assert.deepEqual(
    (await stack.leftovers()).previous.filter((path) => !known.has(path)),
    [],
  );
  assert.equal((await stack.liveSide('discarded')).side, otherThan(live));
  live = otherThan(live);
  const both = await restore(otherThan(live), '--discard-previous', '--skip-validation');
  assert.equal(both.exitCode, 1);
  assert.match(both.stderr, /discarded only after the restored data has been compared/);
});

const asRoot = { skip: process.getuid?.() !== 0 };

test('a full disk while staging: nothing live changed, nothing staged stays', asRoot, async () => {
  const { modelStore } = stack.demo;
  const away = `${modelStore}.away`;
  await rename(modelStore, away);
  await mkdir(modelStore);
  await execa('mount', ['-t', 'tmpfs', '-o', 'size=160k', 'tmpfs', modelStore]);
  try {
    await execa('cp', ['-a', `${away}/manifests`, `${away}/blobs`, modelStore]);
    const { exitCode, stderr } = await restore(otherThan(live));
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, /no space left|are free/i);
    assert.doesNotMatch(stderr, /Stopping/);
    await unchanged(stderr);
  } finally {
    await execa('umount', [modelStore]);
    await rm(modelStore, { recursive: true });
    await rename(away, modelStore);
  }
});

test('a target the user may not write: refused, nothing touched', asRoot, async () => {
  const { demo } = stack;
  const readable = [
    'tars.yaml',
    'tars-recovery.key',
    'postgres-password',
    'redis-password',
    'state',
    'repository',
  ];
  const paths = [demo.root, ...readable.map((name) => join(demo.root, name))];
  const give = async (owner: string): Promise<void> => {
    await execa('chown', [`${owner}:`, demo.root]);
    await execa('chown', ['-R', `${owner}:`, ...paths.slice(1)]);
  };
  await mkdir(join(demo.root, 'state'), { recursive: true });
  await give('nobody');
  try {
    const args = [
      '--config',
      demo.settingsPath,
      'restore',
      stack.snapshots[otherThan(live)],
      '--yes',
      '--skip',
      'config',
    ];
    const { exitCode, stderr } = await execa(
      'setpriv',
      ['--reuid=nobody', '--regid=nogroup', '--clear-groups', process.execPath, cliPath, ...args],
      { reject: false, stdin: 'ignore', env: { HOME: '/nonexistent', NO_COLOR: '1' } },
    );
    assert.equal(exitCode, 1, stderr);
    assert.match(stderr, /Cannot (stage in|read the pid file|access) .*permission denied/);
    assert.doesNotMatch(stderr, /Stopping/);
  } finally {
    await give('root');
  }
  await unchanged('no permission');
});
