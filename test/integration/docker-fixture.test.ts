import assert from 'node:assert/strict';
import { once } from 'node:events';
import { access, readdir } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger, type StoreName } from '../fixtures/docker/ledger.ts';
import { remains, startProject, type StartedProject } from '../fixtures/docker/project.ts';

// What the Docker tests stand on must itself be able to fail.
const docker = await dockerForTests();
const { skip } = docker;

/** Differences between the stores and everything the ledger says, with no time limit either way. */
async function differences(project: StartedProject): Promise<ReturnType<typeof compareWithLedger>> {
  return compareWithLedger(project, await project.ledger(), { acknowledgedBeforeMs: Infinity });
}

test(
  'tars-home under Compose 2 keeps what it acknowledged; a planted difference in any store is found',
  { skip },
  async () => {
    let left: { name: string; logDir: string };
    {
      await using project = await startProject({
        engine: docker.engine,
        prefix: 'fx-v2-',
        composeVersion: 'v2',
        file: 'tars-home',
      });
      left = project;
      for (const service of ['postgres', 'redis', 'chromadb', 'ollama', 'backend'])
        assert.equal(await project.health(service), 'healthy', service);
      await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
      await project.exec('ollama', ['ollama', 'verify']);
      assert.equal(await project.exec('ollama', ['ollama', 'list']), 'llama3.2:1b');
      await project.writesOn(40);
      const halfwayMs = Date.now();
      await project.writesOn(20);
      await project.compose('restart', 'backend');
      await project.waitHealthy();
      await project.writesOn(20);
      await project.compose('stop', 'backend');
      assert.deepEqual(await differences(project), []);

      const entries = await project.ledger();
      assert.deepEqual(new Set(entries.map(({ writer }) => writer)).size, 2, 'a ledger for each start');
      const seqs = entries.map(({ seq }) => seq);
      assert.deepEqual(seqs, [...new Set(seqs)], 'sequence numbers go on after a restart');
      await assertTimesMatter(project, halfwayMs);
      await assertPlantedDifferencesAreFound(project);
    }
    await assertNothingLeft(left);
  },
);

async function assertTimesMatter(project: StartedProject, halfwayMs: number): Promise<void> {
  const entries = await project.ledger();
  const loose = await compareWithLedger(project, entries, { acknowledgedBeforeMs: halfwayMs });
  assert.deepEqual(loose, [], 'what came later may be there');
  const late = await compareWithLedger(project, entries, {
    acknowledgedBeforeMs: halfwayMs,
    nothingAfterMs: halfwayMs,
  });
  assert.deepEqual(new Set(late.map(({ store }) => store)), new Set(['postgres', 'redis', 'chroma']));
  const missed = await compareWithLedger(project, entries.slice(0, -60), { acknowledgedBeforeMs: Infinity });
  assert.ok(missed.length > 0, 'objects no entry mentions are differences');
}

/** Changes one object at a time behind the ledger's back. */
async function assertPlantedDifferencesAreFound(project: StartedProject): Promise<void> {
  const entries = await project.ledger();
  const present = (store: StoreName, kind: RegExp): string => {
    const last = new Map(
      entries.filter((entry) => entry.store === store).map((entry) => [entry.object, entry]),
    );
    const found = [...last.values()].find(({ object, state }) => state !== null && kind.test(object));
    assert.ok(found, `${store} ${String(kind)}`);
    return found.object;
  };
  const sql = (query: string): Promise<string> =>
    project.exec('postgres', ['psql', '-U', 'tars', '-d', 'tars_home', '-c', query]);
  const redis = (...argv: string[]): Promise<string> => project.exec('redis', ['redis-cli', ...argv]);
  const planted: string[] = [];
  const expect = async (store: StoreName, object: string): Promise<void> => {
    planted.push(`${store} ${object}`);
    const found = (await differences(project)).map(
      (difference) => `${difference.store} ${difference.object}`,
    );
    assert.deepEqual(found.sort(), [...planted].sort());
  };
  const visit = present('postgres', /./);
  await sql(`UPDATE visits SET body = body || 'x' WHERE visit = ${visit}`);
  await expect('postgres', visit);
  await sql("INSERT INTO visits (visit, note, body) VALUES (0, 'stray', '')");
  await expect('postgres', '0');

  const [text, list, hash] = [/visit/, /list/, /hash/].map((kind) => present('redis', kind)) as [
    string,
    string,
    string,
  ];
  await redis('PEXPIRE', text, '7777777');
  await expect('redis', text);
  await redis('RPUSH', list, 'one more');
  await expect('redis', list);
  await redis('DEL', hash);
  await expect('redis', hash);

  const records = await chromaIds(project);
  const [first = '', second = ''] = records;
  const change = (operation: string, body: unknown): Promise<string> =>
    chroma(project, `/${operation}`, body);
  await change('update', { ids: [first], embeddings: [Array.from({ length: 16 }, () => 0.5)] });
  await expect('chroma', first);
  await change('delete', { ids: [second] });
  await expect('chroma', second);
}

async function chroma(project: StartedProject, path: string, body: unknown): Promise<string> {
  const base = 'http://localhost:8000/api/v2/tenants/default_tenant/databases/default_database/collections';
  const { id } = JSON.parse(await project.exec('chromadb', ['curl', '-fsS', `${base}/visits`])) as {
    id: string;
  };
  const argv = [
    'curl',
    '-fsS',
    '-H',
    'content-type: application/json',
    '--data-binary',
    '@-',
    `${base}/${id}${path}`,
  ];
  return project.exec('chromadb', argv, JSON.stringify(body));
}

async function chromaIds(project: StartedProject): Promise<readonly string[]> {
  return (JSON.parse(await chroma(project, '/get', { include: [] })) as { ids: string[] }).ids;
}

async function assertNothingLeft({ name, logDir }: { name: string; logDir: string }): Promise<void> {
  assert.deepEqual(await remains(docker.engine, name), []);
  await assert.rejects(access(dirname(logDir)), { code: 'ENOENT' });
}

test('a project that fails to come up leaves nothing either', { skip }, async () => {
  const prefix = `fx-bad-${process.pid}-`;
  await using taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  await assert.rejects(
    startProject({
      engine: docker.engine,
      prefix,
      composeVersion: 'v2',
      file: 'tars-home',
      // Volumes, networks, containers are there when the Engine refuses it.
      env: { REDIS_PORT: `${(taken.address() as AddressInfo).port}` },
    }),
    /address already in use|port is already allocated/,
  );
  const kinds = [
    ['ps', '--all'],
    ['volume', 'ls'],
    ['network', 'ls'],
  ];
  const left = kinds.map((kind) => docker.engine.docker([...kind, '--quiet', '--filter', `name=${prefix}`]));
  assert.deepEqual(await Promise.all(left), ['', '', '']);
  const files = (await readdir(tmpdir())).filter((name) => name.startsWith(`tars-${prefix}`));
  assert.deepEqual(files, []);
});
