import assert from 'node:assert/strict';
import { execa } from 'execa';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { startPostgres, type PrivatePostgres } from '../../src/demo/servers/postgres.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { createRepository } from '../../src/repository/open.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { replaceKeys } from '../fixtures/cheap-key.ts';
import type { CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { smallProject, type SmallProject } from '../fixtures/docker/small-project.ts';
import { createUser } from '../fixtures/docker/tars-on.ts';
import { eventually } from '../fixtures/processes.ts';
import { callTars } from '../fixtures/tars-link.ts';

const docker = await dockerForTests();
const skip = docker.skip === false && process.getuid?.() !== 0 ? 'needs root' : docker.skip;
const ctx = testContext();
const password = 'correct-horse';
const serverPath = fileURLToPath(new URL('../fixtures/tars-server.ts', import.meta.url));

/** Two servers that listen where those of the project would be expected without a look at its containers. */
interface Strangers {
  readonly postgres: PrivatePostgres;
  readonly redis: PrivateRedis;
}

interface Scene extends AsyncDisposable {
  readonly small: SmallProject;
  readonly strangers: Strangers;
  /** Holds {@link password}. */
  readonly keyFile: string;
  /** As a user of the group docker; `components` over those of the project. */
  run(args: readonly string[], components?: Readonly<Record<string, object>>): Promise<CliRun>;
  ok(args: readonly string[]): Promise<string>;
  sql(statement: string, database?: string): Promise<string>;
  redis(...args: string[]): Promise<string>;
  /** Logins to the other PostgreSQL since the last call, as its log has them. */
  newLogins(): Promise<readonly string[]>;
}

async function startScene(): Promise<Scene> {
  await using cleanup = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'tars-own-'));
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o755);
  const postgres = cleanup.use(await startPostgres(join(directory, 'pg'), password));
  const redis = cleanup.use(
    await startRedis(join(directory, 'redis'), ctx, { lines: ['dbfilename stranger.rdb'] }),
  );
  const acl = ['--user', 'tars', 'on', `>${password}`, '+ping', '+info', '+psync', '+replconf'];
  const small = cleanup.use(
    await smallProject(
      docker.engine,
      'own-',
      {
        db: {
          ...{
            image: 'postgres:15-tars-test',
            command: ['-p', `${postgres.port}`],
            volumes: ['db:/var/lib/postgresql/data'],
          },
          environment: { POSTGRES_USER: 'tars', POSTGRES_PASSWORD: password },
        },
        cache: {
          ...{ image: 'redis:7-tars-test', volumes: ['cache:/data'] },
          command: ['redis-server', '--port', `${redis.port}`, '--appendonly', 'yes'],
        },
        guarded: {
          image: 'redis:7-tars-test',
          command: ['redis-server', ...acl],
          volumes: ['guarded:/data'],
        },
        llm: { image: 'ollama/ollama:tars-test', init: true, volumes: ['llm:/root/.ollama'] },
        app: {
          image: 'tars-test/backend:1',
          command: ['sleep', '3600'],
          init: true,
          depends_on: ['db', 'cache'],
        },
      },
      { volumes: ['db', 'cache', 'guarded', 'llm'] },
    ),
  );
  const own = await mkdtemp(join(tmpdir(), 'tars-own-user-'));
  cleanup.defer(() => rm(own, { recursive: true, force: true }));
  const standard = {
    postgres: { service: 'db', port: postgres.port },
    redis: { service: 'cache', port: redis.port },
    ollama: { service: 'llm', models: 'list' },
  };
  const repository = createLocalStorage(join(own, 'repository'));
  await replaceKeys(await createRepository(repository, password, ctx), password, ctx);
  await writeFile(join(own, 'key'), password, { mode: 0o600 });
  const user = cleanup.use(await createUser(own));
  const socketPath = join(own, 'tars.sock');
  const server = execa(
    'runuser',
    ['--user', user.name, '--', 'env', `HOME=${own}`, process.execPath, serverPath, socketPath],
    { reject: false, stderr: 'inherit', cwd: own },
  );
  cleanup.defer(async () => {
    server.stdin.end();
    await server;
  });
  const ended = server.then(() => assert.fail('tars of the user does not start'));
  await Promise.race([once(server.stdout, 'data'), ended]);
  const run: Scene['run'] = async (args, components = {}) => {
    const settings = {
      ...{ version: 1, stack: 'home', state_dir: join(own, 'state'), scratch_dir: join(own, 'scratch') },
      repository: { path: join(own, 'repository'), password_file: join(own, 'key') },
      docker: { project: small.name, host: docker.engine.host },
      components: { ...standard, ...components },
      services: { app: { writer: true } },
      pause_max_ms: 60_000,
    };
    const path = join(own, 'tars.yaml');
    await writeFile(path, stringify(settings));
    await chmod(path, 0o644);
    return callTars(socketPath, {
      args: [...args, '--config', path],
      cwd: own,
      env: { PATH: process.env['PATH'] },
    });
  };
  let seenLines = 0;
  const owned = cleanup.move();
  return {
    small,
    keyFile: join(own, 'key'),
    strangers: { postgres, redis },
    run,
    async ok(args) {
      const { exitCode, stdout, stderr } = await run(args);
      assert.equal(exitCode, 0, `${stderr}\n${stdout}`);
      return stdout;
    },
    sql: (statement, database = 'tars') =>
      small.project.exec('db', [
        'psql',
        '-p',
        `${postgres.port}`,
        '-U',
        'tars',
        '-d',
        database,
        '-Atc',
        statement,
      ]),
    redis: (...args) => small.project.exec('cache', ['redis-cli', '-p', `${redis.port}`, ...args]),
    async newLogins() {
      const log = await readFile(join(postgres.dataDir, 'server.log'), 'utf8');
      const lines = log.split('\n');
      const fresh = lines.slice(seenLines).filter((line) => line.includes('connection authorized'));
      seenLines = lines.length - 1;
      return fresh;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** From now on every login is in its log. */
async function logConnections({ postgres }: Strangers): Promise<void> {
  const psql = join(postgres.binDir, 'psql');
  const target = ['-h', '127.0.0.1', '-p', `${postgres.port}`, '-U', 'tars', '-d', 'postgres'];
  const env = { PGPASSWORD: password };
  await execa(psql, [...target, '-c', 'CREATE DATABASE tars'], { env });
  await execa(psql, [...target, '-c', 'ALTER SYSTEM SET log_connections = on'], { env });
  await execa(psql, [...target, '-c', 'SELECT pg_reload_conf()'], { env });
}

test(
  'a restore under Docker touches nothing but what it restores, on no server but the one in the container',
  { skip },
  async (t) => {
    await using scene = await startScene();
    const { small } = scene;
    await logConnections(scene.strangers);
    await small.compose('up', '-d');
    await eventually('the project answers', () =>
      scene.sql('SELECT 1').then(
        () => true,
        () => false,
      ),
    );
    await scene.sql("CREATE TABLE mine AS SELECT 'captured' AS word");
    await scene.redis('set', 'word', 'captured');
    await small.project.exec('llm', ['ollama', 'pull', 'llama3.2:1b']);
    await scene.ok(['backup']);
    await models(t, scene);
    await anotherServer(t, scene);
    await notRunning(t, scene);
    await byHand(t, scene);
  },
);

const storeFiles = 'cd /root/.ollama/models && find . -type f | sort | xargs sha256sum';

async function models(t: TestContext, scene: Scene): Promise<void> {
  const { small } = scene;
  const look = (): Promise<string> => small.project.exec('llm', ['sh', '-c', storeFiles]);
  await t.test(
    'with models: list, a restore of the model store leaves the models where they are',
    async () => {
      const before = await look();
      assert.match(before, /blobs\/sha256-/);
      for (const extra of [[], ['--discard-previous']]) {
        const restored = await scene.ok(['restore', '--yes', '--component', 'ollama', ...extra]);
        assert.match(restored, /^Restored and verified: ollama/);
        assert.equal(await look(), before);
        assert.equal(
          await small.project.exec('llm', ['sh', '-c', 'ls -A /root/.ollama/models']),
          'blobs\nmanifests',
        );
      }
    },
  );
}

async function anotherServer(t: TestContext, scene: Scene): Promise<void> {
  const { postgres, redis } = scene.strangers;
  await t.test(
    'an address of tars.yaml that leads to another server: nothing is read or written',
    async () => {
      const components = {
        postgres: { service: 'db', host: '127.0.0.1', port: postgres.port },
        redis: { service: 'cache', host: '127.0.0.1', port: redis.port },
      };
      const backup = await scene.run(['backup', '--only', 'postgres,redis'], components);
      assert.equal(backup.exitCode, 1, backup.stderr);
      assert.match(
        backup.stderr,
        /The server that answers for db is not the one in the container own-\w+-db-1/,
      );
      assert.match(
        backup.stderr,
        /The server that answers for cache is not the one in the container own-\w+-cache-1/,
      );
      const restore = await scene.run(['restore', '--yes', '--component', 'postgres,redis'], components);
      assert.equal(restore.exitCode, 1);
      assert.match(restore.stderr, /The server that answers for db is not the one/);
      assert.equal(await scene.sql('SELECT word FROM mine'), 'captured');
    },
  );

  await t.test('a user who may ask little is told apart from another server by run_id', async () => {
    const guarded = { service: 'guarded', kind: 'redis', username: 'tars', password_file: scene.keyFile };
    const own = await scene.run(['backup', '--dry-run', '--only', 'guarded'], { guarded });
    assert.equal(own.exitCode, 0, own.stderr);
    await execa('redis-cli', [
      '-p',
      `${redis.port}`,
      'acl',
      'setuser',
      'tars',
      'on',
      `>${password}`,
      '+ping',
      '+info',
      '+psync',
      '+replconf',
    ]);
    const other = await scene.run(['backup', '--only', 'guarded'], {
      guarded: { ...guarded, host: '127.0.0.1', port: redis.port },
    });
    assert.equal(other.exitCode, 1, other.stderr);
    assert.match(
      other.stderr,
      /The server that answers for guarded is not the one .*: its run_id is \w+, and/,
    );
  });
}

async function notRunning(t: TestContext, scene: Scene): Promise<void> {
  const { small } = scene;
  await t.test('stores that do not run: their restore waits for their own server', async () => {
    assert.ok((await scene.newLogins()).length > 0, 'they are logged');
    await scene.sql('DROP TABLE mine');
    await scene.redis('set', 'word', 'later');
    await small.compose('stop');
    const plan = await scene.run(['restore', '--dry-run', '--component', 'postgres']);
    assert.equal(plan.exitCode, 1);
    assert.match(plan.stderr, /db of the project own-\w+ is stopped/);
    assert.deepEqual(await scene.newLogins(), []);
    const files = await scene.ok(['restore', '--dry-run', '--component', 'redis']);
    assert.doesNotMatch(files, /stranger/);
    await scene.ok(['restore', '--yes']);
    assert.deepEqual(await scene.newLogins(), []);
    assert.equal(await scene.sql('SELECT word FROM mine'), 'captured');
    assert.equal(await scene.redis('get', 'word'), 'captured');
  });
}

/** What a person does on a machine that has the docker command and nothing else. */
async function byHand(t: TestContext, scene: Scene): Promise<void> {
  const bin = await mkdtemp(join(tmpdir(), 'tars-own-bin-'));
  await symlink((await execa('which', ['docker'])).stdout, join(bin, 'docker'));
  const type = async (lines: readonly string[]): Promise<void> => {
    const env = { PATH: bin, DOCKER_HOST: docker.engine.host };
    for (const line of lines) await execa('/bin/sh', ['-euc', line], { env, extendEnv: false });
  };
  const printed = (text: string): string[] =>
    text.split('\n').flatMap((line) => (line.startsWith('    ') ? [line.trim()] : []));
  const answers = async (): Promise<string> => {
    await eventually('the database answers', () =>
      scene.sql('SELECT 1').then(
        () => true,
        () => false,
      ),
    );
    return `${await scene.sql('SELECT word FROM mine')} ${await scene.redis('get', 'word')}`;
  };
  try {
    await t.test('the way back works as it is printed, with no client, no password and no tars', async () => {
      await scene.small.compose('start');
      await answers();
      await scene.sql("UPDATE mine SET word = 'later'");
      await scene.redis('set', 'word', 'later');
      const restored = await scene.ok(['restore', '--yes']);
      assert.equal(await answers(), 'captured captured');
      const lines = printed(restored);
      assert.match(
        lines.join('\n'),
        /^docker stop [^]*^docker stop -t \d+ \S+-app-1$[^]*^docker exec [^]*^docker run [^]*^docker start \S+-app-1$/m,
      );
      assert.doesNotMatch(restored, new RegExp(password));
      await type(lines);
      assert.equal(await answers(), 'later later');
      assert.equal(await scene.small.project.health('app'), 'running');
      const file = /also in\s+(\S+):/.exec(restored)?.[1] ?? '';
      assert.deepEqual(
        (await readFile(file, 'utf8')).split('\n').filter((line) => /^docker/.test(line)),
        lines,
      );
    });

    await t.test('doctor names what restores left, each with the line that removes it', async () => {
      const left = async (): Promise<{ found: string; hint: string }[]> => {
        const { stdout } = await scene.run(['doctor', '--json']);
        const { diagnoses: checks } = JSON.parse(stdout) as {
          diagnoses: { check: string; found: string; hint: string }[];
        };
        return checks.filter(({ check }) => check === 'leftovers');
      };
      const found = await left();
      assert.match(
        found.map((each) => each.found).join('\n'),
        /postgres: a restore left database "tars_tars_new_/,
      );
      assert.match(
        found.map((each) => each.found).join('\n'),
        /redis: a restore left \.tars-prev-\w+ in \/data/,
      );
      await type(found.map(({ hint }) => hint.slice(hint.indexOf('docker '))));
      assert.deepEqual(await left(), []);
      assert.equal(await answers(), 'later later');
    });
  } finally {
    await rm(bin, { recursive: true });
  }
}
