import assert from 'node:assert/strict';
import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import type { StackInventory } from '../../src/ports/inventory.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { removeProject } from '../fixtures/docker/project.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();

const postgres = 'postgres:15-tars-test';
const redis = 'redis:7-tars-test';
const ollama = 'ollama/ollama:tars-test';
const backend = { image: 'tars-test/backend:1', init: true };

/** Passes connections on to the database, as a pooler does. */
const pooler =
  "require('net').createServer((a) => { const b = require('net').connect(5432, 'db'); a.pipe(b).pipe(a); a.on('error', () => b.destroy()); b.on('error', () => a.destroy()); }).listen(5432)";

const stores = {
  db: {
    ...{ image: postgres, volumes: ['db:/var/lib/postgresql/data'] },
    environment: { POSTGRES_PASSWORD: 'quiet-harbour-12' },
  },
  cache: { image: redis, volumes: ['cache:/data'], command: ['redis-server', '--appendonly', 'yes'] },
  llm: { image: ollama, volumes: ['models:/root/.ollama'] },
};

/** A job that comes first by its name, and whose container people remove. */
const rights = { ...backend, command: ['true'], volumes: ['admin:/a'] };

/** Each has a store's image, port or data, and is none. */
const others = {
  pool: { ...backend, entrypoint: ['node', '-e', pooler], command: [], expose: ['5432'], depends_on: ['db'] },
  warm: {
    ...{ image: redis, restart: 'no', entrypoint: ['sh', '-c'] },
    command: ['until redis-cli -h cache ping; do sleep 1; done; redis-cli -h cache set warm 1'],
  },
  seed: { image: redis, restart: 'no', entrypoint: ['redis-cli', '-h', 'nowhere', 'ping'] },
  pull: {
    ...{ image: ollama, entrypoint: ['/bin/sh'], command: ['-c', 'sleep 1; ollama list'] },
    ...{ volumes: ['models:/root/.ollama'], environment: { OLLAMA_HOST: 'llm:11434' } },
  },
  migrate: { image: postgres, entrypoint: ['sh', '/migrate.sh'], volumes: ['./migrate.sh:/migrate.sh:ro'] },
  nightly: {
    ...{ image: postgres, restart: 'unless-stopped', entrypoint: ['/nightly.sh'] },
    volumes: ['./nightly.sh:/nightly.sh:ro', './dumps:/dumps'],
  },
  // Only what it runs tells, and it goes on running.
  proxy: { ...backend, command: ['sleep', '600'], expose: ['6379'], depends_on: ['cache'] },
  admin: { ...backend, command: ['sleep', '600'], expose: ['80'], volumes: ['admin:/var/lib/pgadmin'] },
};

test(
  'jobs, poolers, backups and admin pages are no stores: no night is partial, and old snapshots are forgotten',
  { skip: docker.skip },
  async () => {
    await using small = await smallProject(
      docker.engine,
      'ro-',
      { ...stores, ...others, aaa: rights },
      {
        volumes: ['db', 'cache', 'models', 'admin'],
        files: { 'migrate.sh': 'exit 0\n', 'nightly.sh': '#!/bin/sh\nexec sleep 600\n' },
      },
    );
    const { name, directory, project, composeFile } = small;
    // Compose 1 takes a bare `no` for a truth value.
    await writeFile(composeFile, JSON.stringify(parse(await readFile(composeFile, 'utf8'))));
    await project.docker(
      'run',
      '--rm',
      '-v',
      `${directory}:/d`,
      '--entrypoint',
      'chmod',
      redis,
      '755',
      '/d/nightly.sh',
    );
    await mkdir(join(directory, 'dumps'));
    await small.compose('up', '-d');
    for (const job of ['warm', 'seed', 'pull', 'migrate', 'aaa'])
      await eventually(`${job} ends`, async () => (await project.health(job)) === 'exited');
    await eventually('the pooler passes on what the database answers', async () =>
      /1/.test(
        await small
          .compose(
            'exec',
            '-T',
            '-e',
            'PGPASSWORD=quiet-harbour-12',
            'db',
            'psql',
            '-h',
            'pool',
            '-U',
            'postgres',
            '-Atc',
            'SELECT 1',
          )
          .catch(() => ''),
      ),
    );
    await project.exec('admin', ['sh', '-c', 'echo a >/var/lib/pgadmin/pgadmin4.db']);
    const env = {
      ...{ TARS_PASSWORD: 'long enough', XDG_STATE_HOME: join(directory, 'state') },
      DOCKER_HOST: docker.engine.host,
    };
    const run = (...args: readonly string[]): Promise<CliRun> => tars(args, { cwd: directory, env });
    const ok = async (...args: readonly string[]): Promise<string> => {
      const done = await run(...args);
      assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
      return done.stdout;
    };

    const { inventory } = JSON.parse(await ok('init', '--project', name, '--json')) as {
      inventory: StackInventory;
    };
    assert.deepEqual(inventory.stores.map(({ service }) => service).sort(), ['cache', 'db', 'llm']);
    const writers = inventory.writers.map(({ service }) => service).sort();
    assert.deepEqual(writers, ['admin', 'nightly', 'pool', 'proxy'], 'what has ended is none');
    const notes = inventory.notes.join('\n');
    for (const said of [
      /pool answers as PostgreSQL and keeps nothing in \/var\/lib\/postgresql\/data/,
      /warm runs redis-cli, sleep, not a server of Redis/,
      /pull runs sleep, ollama, not a server of Ollama/,
    ])
      assert.match(notes, said);
    const text = await readFile(join(directory, 'tars.yaml'), 'utf8');
    const { components } = parse(text) as { components: Record<string, { kind: string }> };
    assert.deepEqual(components['admin'], { kind: 'files', service: 'admin', inside: '/var/lib/pgadmin' });
    assert.deepEqual(components['dumps'], { kind: 'files', service: 'nightly', inside: '/dumps' });

    for (const job of ['warm', 'seed', 'pull', 'migrate', 'aaa'])
      assert.ok(!text.includes(`service: ${job}\n`), job);

    await appendFile(join(directory, 'tars.yaml'), '\npause_max_ms: 60000\n');
    await ok('backup');
    // As docker container prune does.
    await project.docker('rm', ...['seed', 'migrate', 'aaa'].map((job) => `${name}-${job}-1`));
    const { manifest } = JSON.parse(await ok('backup', '--json')) as { manifest: Manifest };
    assert.equal(manifest.outcome, 'complete');
    assert.equal(manifest.consistency, 'cut', manifest.consistencyReason);
    assert.deepEqual(
      manifest.notCaptured.filter(({ status }) => status === 'missing'),
      [],
    );
    await ok('status');
    await ok('forget', '--keep-last', '1', '--yes');
    assert.equal((JSON.parse(await ok('snapshots', '--json')) as unknown[]).length, 1);

    // All is lost: a restore runs no job again, as that may write to what was restored.
    await removeProject(docker.engine, name);
    for (const path of ['dumps', 'docker-compose.yml', 'nightly.sh', 'migrate.sh'])
      await rm(join(directory, path), { recursive: true });
    await ok('restore', '--yes');
    for (const job of ['warm', 'pull']) assert.equal(await project.health(job), 'created', job);
    assert.equal(await project.health('nightly'), 'running');
    assert.equal(await project.exec('cache', ['redis-cli', 'get', 'warm']), '1');
    assert.equal(await project.exec('admin', ['cat', '/var/lib/pgadmin/pgadmin4.db']), 'a');

    // Whoever has named such a job in tars.yaml is told what it is.
    const declared = text.replace(/^components:\n/m, '$&  warm:\n    kind: redis\n    service: warm\n');
    await writeFile(join(directory, 'tars.yaml'), declared);
    const { stdout } = await run('doctor');
    assert.match(
      stdout.replaceAll(/\s+/g, ' '),
      /warm of the project \S+ runs redis-cli, sleep, not a server of Redis.*Remove the component with service: warm/,
    );
  },
);
