import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import type { Manifest } from '../../src/model/manifest.ts';
import type { Diagnosis } from '../../src/operations/doctor/doctor.ts';
import type { StackInventory } from '../../src/ports/inventory.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { cheapenKey } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger } from '../fixtures/docker/ledger.ts';
import { remains, removeProject, startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { smallProject } from '../fixtures/docker/small-project.ts';
import { wholeCut } from '../fixtures/docker/whole-cut.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;

const password = 'long enough';

type Run = (...args: readonly string[]) => Promise<CliRun>;

/** `tars` in the project's directory, as its operator would run it. */
function tarsIn(directory: string): { run: Run; ok: Run } {
  const env = {
    TARS_PASSWORD: password,
    XDG_STATE_HOME: join(directory, 'state'),
    DOCKER_HOST: docker.engine.host,
  };
  const run: Run = (...args) => tars(args, { cwd: directory, env });
  const ok: Run = async (...args) => {
    const done = await run(...args);
    assert.equal(done.exitCode, 0, `tars ${args.join(' ')}:\n${done.stderr}\n${done.stdout}`);
    return done;
  };
  return { run, ok };
}

/** What a person would have written for `strangers`. */
const expected = {
  components: {
    db: { kind: 'postgres', service: 'db' },
    reporting: { kind: 'postgres', service: 'reporting' },
    redis: { service: 'cache' },
    chroma: { service: 'vectors' },
    ollama: { service: 'llm', models: 'list' },
    config: { files: ['compose.yaml', 'api.env', '.env', 'tars.yaml'] },
  },
  services: { api: { writer: true } },
};

for (const version of ['v1', 'v2'] as const) {
  const loss = { v1: 'all of it removed, restored', v2: 'healthy' }[version];
  test(
    `a Compose file that nobody adapted, under Compose ${version}: init, backup while it writes, ${loss}`,
    { skip },
    async () => {
      let left: StartedProject;
      {
        await using project = await startProject({
          ...{ engine: docker.engine, prefix: `in-${version}-`, composeVersion: version, file: 'strangers' },
        });
        left = project;
        assert.equal(await project.health('cache'), 'running', 'it has no health check');
        const { ok } = tarsIn(project.directory);
        await assertNotAdopted(project);
        await initialised(project, ok, version);
        const manifest = await backedUp(project, ok);
        if (version === 'v2') await assertHealthy(ok);
        await project.writesOn(5);
        await project.compose('stop', 'api');
        if (version === 'v1') await fromNothing(project, ok);
        // A whole project is restored into its wiped stores by the tests of backups, too.
        else if (isCampaign) await fromWiped(project, ok, Date.parse(manifest.time));
      }
      assert.deepEqual(await remains(docker.engine, left.name), []);
      const volumes = ['volume', 'ls', '--quiet', '--filter', `name=${left.name}`];
      assert.equal(await docker.engine.docker(volumes), '', 'the volume from outside is removed too');
    },
  );
}

/** From another directory a project is named, and not taken: that would back up what nobody asked for. */
async function assertNotAdopted({ name }: StartedProject): Promise<void> {
  const elsewhere = await mkdtemp(join(tmpdir(), 'tars-elsewhere-'));
  try {
    const { exitCode, stderr } = await tarsIn(elsewhere).run('init', '--yes');
    const written = await readFile(join(elsewhere, 'tars.yaml'), 'utf8').catch(() => undefined);
    assert.doesNotMatch(written ?? '', new RegExp(name));
    // Stores that answer on this machine would be taken.
    if (written === undefined) assert.match(stderr, new RegExp(`--project ${name}`));
    assert.equal(exitCode === 0, written !== undefined, stderr);
  } finally {
    await rm(elsewhere, { recursive: true });
  }
}

async function initialised(project: StartedProject, ok: Run, version: 'v1' | 'v2'): Promise<void> {
  const wish = { v1: ['--project', project.name], v2: ['--compose', 'compose.yaml'] }[version];
  const { stdout: said } = await ok('init', ...wish);
  const settingsPath = join(project.directory, 'tars.yaml');
  const text = await readFile(settingsPath, 'utf8');
  assertWritten(text, project);
  const { repository } = parse(text) as { repository: { path: string } };
  await cheapenKey(resolve(project.directory, repository.path), password);
  // A busy machine is no reason for less than a cut.
  await appendFile(settingsPath, '\npause_max_ms: 60000\n');
  assert.match(said, /db +postgres +by its image postgres:15/);
  assert.match(said, /reporting +postgres +by its label/);
  assert.match(said, /Paused for the cut: api/);
  assert.match(said, /Left out: api:\/app\/logs \(logs/);
  assert.match(said, /tars backup --dry-run$/);
  await assertMountsListed(project, ok);
}

async function backedUp(project: StartedProject, ok: Run): Promise<Manifest> {
  await project.writesOn(10);
  const manifest = await wholeCut(async () => {
    await ok('backup');
    return latest(ok);
  });
  assert.deepEqual(
    manifest.notCaptured.map(({ mount }) => mount),
    [logsOf(project)],
  );
  return manifest;
}

/** Every store answers, all of it would restore, and nothing is missing. */
async function assertHealthy(ok: Run): Promise<void> {
  const { diagnoses } = JSON.parse((await ok('doctor', '--json')).stdout) as { diagnoses: Diagnosis[] };
  const of = (wanted: string): string[] =>
    diagnoses.filter(({ check }) => check === wanted).map(({ state, found }) => `${state}: ${found}`);
  for (const store of ['db', 'reporting', 'redis', 'chroma', 'ollama', 'config'])
    assert.match(of(`store ${store}`)[0] ?? '', /^ok: /);
  assert.match(of('cut')[0] ?? '', /^ok: api will be paused/);
  assert.deepEqual(of('not captured'), []);
  const [restorable = ''] = of('restore');
  assert.deepEqual(/^ok: .*: (.*)$/.exec(restorable)?.[1]?.split(', ').sort(), [
    ...['chroma', 'config', 'db', 'ollama', 'redis', 'reporting'],
  ]);
}

async function latest(ok: Run): Promise<Manifest> {
  return (JSON.parse((await ok('show', '--json')).stdout) as { manifest: Manifest }).manifest;
}

/** The backend is down. */
async function fromWiped(project: StartedProject, ok: Run, cutMs: number): Promise<void> {
  await wipe(project);
  await ok('restore', '--yes');
  const limits = { acknowledgedBeforeMs: cutMs, nothingAfterMs: cutMs };
  assert.deepEqual(await compareWithLedger(project, await project.ledger(), limits), []);
}

/** The backend is down: nothing is written between the cut and the comparison. */
async function fromNothing(project: StartedProject, ok: Run): Promise<void> {
  await ok('backup');
  const { compose } = await latest(ok);
  assert.deepEqual(compose?.composeFiles, [project.composeFile]);
  assert.equal(compose.services.find(({ name }) => name === 'api')?.state, 'stopped');
  await removeProject(docker.engine, project.name, project.externalVolumes);
  for (const file of ['compose.yaml', '.env', 'api.env']) await rm(join(project.directory, file));

  const plan = await ok('restore', '--dry-run');
  assert.match(plan.stdout, new RegExp(`volumes .*${project.externalVolumes[0] ?? ''}`));
  assert.deepEqual(await remains(docker.engine, project.name), []);
  await ok('restore', '--yes');
  const differences = async (): ReturnType<typeof compareWithLedger> =>
    compareWithLedger(project, await project.ledger(), { acknowledgedBeforeMs: Infinity });
  assert.deepEqual(await differences(), []);
  assert.equal(await project.health('api'), 'created', 'what did not run is there, and does not run');
  const key = '{{index .Config.Labels "com.docker.compose.version"}}';
  assert.match(await project.docker('inspect', '--format', key, await project.container('db')), /^1\./);

  // The comparison can fail.
  await project.exec('reporting', ['psql', '-U', 'postgres', '-c', 'DELETE FROM visits WHERE visit = 1']);
  const found = (await differences()).map(({ store, object }) => [store, object]);
  assert.deepEqual(found, [['postgres2', '1']]);
}

const logsOf = ({ logDir }: StartedProject): object => ({
  service: 'api',
  type: 'bind',
  source: logDir,
  destination: '/app/logs',
});

function assertWritten(text: string, { name }: StartedProject): void {
  const written = parse(text) as typeof expected & { docker: object; leave_out: object };
  assert.deepEqual(written.components, expected.components);
  assert.deepEqual(written.services, expected.services);
  assert.deepEqual(written.docker, { project: name, compose_files: ['compose.yaml'] });
  assert.deepEqual(written.leave_out, { 'api:/app/logs': 'logs' });
  for (const secret of ['Tulip77basin', 'quiet-harbour-12']) assert.ok(!text.includes(secret));
  assert.ok(text.split('\n').length < 64, 'it stays short');
}

/** Also a mount that is there only since `init`. */
async function assertMountsListed(project: StartedProject, ok: Run): Promise<void> {
  const { stdout } = await ok('backup', '--dry-run', '--json');
  const plan = JSON.parse(stdout) as { notCaptured: Manifest['notCaptured'] };
  assert.deepEqual(
    plan.notCaptured.map(({ mount }) => mount),
    [logsOf(project)],
  );
  assert.ok((plan.notCaptured[0]?.sizeBytes ?? 0) > 0);
  const { stdout: without } = await ok('backup', '--dry-run', '--skip', 'db,redis,config');
  for (const mount of ['cache:/data', 'db:/var/lib/postgresql/data'])
    assert.ok(without.includes(`Not captured: ${mount} (`), without);
  assert.ok(without.includes('Left out: api:/app/logs ('), without);
}

async function wipe(project: StartedProject): Promise<void> {
  for (const { service, user, database } of [project.layout.postgres, project.layout.postgres2!])
    await project.exec(service, ['psql', '-U', user, '-d', database, '-c', 'DROP TABLE visits']);
  await project.exec('cache', ['redis-cli', '--no-auth-warning', '-a', 'quiet-harbour-12', 'FLUSHALL']);
  const collection =
    'http://localhost:8000/api/v2/tenants/default_tenant/databases/default_database/collections/visits';
  await project.exec('vectors', ['curl', '-fsS', '-X', 'DELETE', collection]);
  const empty = await compareWithLedger(project, [], { acknowledgedBeforeMs: 0 }).catch(() => 'gone');
  assert.equal(empty, 'gone', 'nothing is left to compare');
}

test(
  'without containers the Compose file is read, by Compose or without it, alike; a second init keeps what is there',
  { skip },
  async () => {
    await using project = await startProject({
      ...{ engine: docker.engine, prefix: 'in-f-', composeVersion: 'v2', file: 'strangers', up: false },
    });
    const { run, ok } = tarsIn(project.directory);
    const inventory = async (env: Record<string, string>): Promise<StackInventory> => {
      const path = join(project.directory, `${Object.keys(env).length}.yaml`);
      const args = [
        '--config',
        path,
        'init',
        '--compose',
        'compose.yaml',
        '--repository',
        `${path}.d`,
        '--json',
      ];
      const { stdout } = await tars(args, {
        cwd: project.directory,
        env: { TARS_PASSWORD: password, DOCKER_HOST: docker.engine.host, ...env },
      });
      return (JSON.parse(stdout) as { inventory: StackInventory }).inventory;
    };
    const byCompose = await inventory({});
    // Node alone, and no Compose.
    const bin = join(project.directory, 'bin');
    await mkdir(bin);
    const byTars = await inventory({ PATH: bin });
    const sorted = ({ stores, ...rest }: StackInventory): object => ({
      ...rest,
      stores: [...stores].sort((a, b) => a.service.localeCompare(b.service)),
      writers: rest.writers.map(({ service }) => service),
    });
    assert.deepEqual(sorted(byTars), sorted(byCompose));
    assert.equal(byTars.seenThrough, 'files');
    // The name Compose would give it is its directory's.
    assert.equal(byTars.project, basename(project.directory));
    assert.deepEqual(
      byTars.leftOut.map(({ destination }) => destination),
      ['/app/logs'],
    );

    await ok('init', '--compose', 'compose.yaml');
    const path = join(project.directory, 'tars.yaml');
    const text = await readFile(path, 'utf8');
    assert.deepEqual((parse(text) as typeof expected).services, expected.services);
    await writeFile(path, `${text}# by hand\n`);
    const again = await run('init', '--project', 'stack');
    assert.match(again.stderr, /There is (already )?a repository/);
    assert.equal(await readFile(path, 'utf8'), `${text}# by hand\n`);
    const other = await run('init', '--project', 'another');
    assert.match(other.stderr, /--project another differs from .*tars\.yaml/);
  },
);

test(
  'what an image does not tell is asked at the port, wrong places are said, what is unclear stays a comment',
  { skip },
  async () => {
    const redis = 'redis:7-tars-test';
    const services = {
      // An image with a name of its own that exposes nothing.
      recall: {
        image: 'tars-test/backend:1',
        entrypoint: ['redis-server'],
        command: ['--bind', '0.0.0.0', '--protected-mode', 'no'],
      },
      locked: {
        ...{ image: redis, volumes: ['locked:/data', './locked.conf:/etc/locked.conf:ro'] },
        command: ['redis-server', '/etc/locked.conf'],
      },
      // Exposes the port of a store, and says that it is none.
      fake: {
        image: redis,
        labels: { 'com.tars.service': 'none' },
        command: ['sleep', '600'],
        volumes: ['/etc/localtime:/etc/localtime:ro', 'fake:/data'],
      },
      app: {
        ...{ image: 'tars-test/backend:1', command: ['sleep', '600'] },
        environment: { CACHE: 'redis://locked:6379/0', BOGUS: 'http://unlocked/recall-me' },
        configs: [{ source: 'settings', target: '/settings.toml' }],
      },
      bystander: { image: 'tars-test/backend:1', command: ['sleep', '600'] },
    };
    await using small = await smallProject(docker.engine, 'in-s-', services, {
      volumes: ['locked', 'fake'],
      files: { 'locked.conf': 'requirepass hush-hush-12\n', 'settings.toml': 'a = 1\n' },
    });
    const model = parse(await readFile(small.composeFile, 'utf8')) as object;
    await writeFile(
      small.composeFile,
      JSON.stringify({ ...model, configs: { settings: { file: './settings.toml' } } }),
    );
    await small.compose('up', '-d');
    for (const service of ['recall', 'locked'])
      await eventually(`${service} answers`, async () =>
        /PONG|NOAUTH/.test(await small.compose('exec', '-T', service, 'redis-cli', 'ping').catch(() => '')),
      );
    const { ok, run } = tarsIn(small.directory);
    const { stdout } = await ok('init', '--project', small.name, '--json');
    const { inventory } = JSON.parse(stdout) as { inventory: StackInventory };
    const found = new Map(inventory.stores.map((store) => [store.service, store]));
    assert.deepEqual([...found.keys()].sort(), ['locked', 'recall']);
    assert.match(found.get('recall')?.how ?? '', /answers on its port 6379/);
    assert.match(found.get('recall')?.warning ?? '', /nothing is mounted/);
    assert.equal(found.get('locked')?.password, 'needed');
    assert.deepEqual(inventory.writers, [
      { service: 'app', why: 'is told the address of locked' },
      { service: 'fake', why: 'writes to fake' },
    ]);
    assert.deepEqual(
      inventory.places.map(({ name, service, inside }) => [name, service, inside]),
      [['fake', 'fake', '/data']],
    );
    assert.deepEqual(
      inventory.leftOut.map(({ service, destination, reason }) => [service, destination, reason]),
      [['fake', '/etc/localtime', 'the time zone of this machine']],
    );
    const text = await readFile(join(small.directory, 'tars.yaml'), 'utf8');
    const { components } = parse(text) as { components: Record<string, { files?: string[] }> };
    assert.deepEqual(components['config']?.files?.sort(), [
      'docker-compose.yml',
      'locked.conf',
      'settings.toml',
      'tars.yaml',
    ]);
    assert.match(text, /# password_file: FILE/);
    assert.match(text, /# AT RISK until this is fixed: it keeps its data in \/data inside/);
    assert.ok(!text.includes('hush-hush'));

    await rm(join(small.directory, 'tars.yaml'));
    const without = await run('init', '--repository', 'second');
    assert.match(
      without.stdout,
      /The Compose project \S+ runs from this directory\. To fill in .*\n.*tars init --project /,
    );
    const unknown = await run(
      '--config',
      'x.yaml',
      'init',
      '--project',
      'no-such-project',
      '--repository',
      'third',
    );
    assert.match(unknown.stderr, new RegExp(`no containers of a project no-such-project\n.*${small.name}`));
  },
);
