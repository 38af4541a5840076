import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Manifest } from '../../src/model/manifest.ts';
import type { BackupPlan } from '../../src/operations/backup/backup.ts';
import { campaignSeed, isCampaign } from '../fixtures/campaign.ts';
import { loadBulkProject, type BulkProjectSizes } from '../fixtures/docker/bulk-project.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger, readStore } from '../fixtures/docker/ledger.ts';
import { fingerprint, oftenWritten, startProject, type StartedProject } from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';
import { wholeCut } from '../fixtures/docker/whole-cut.ts';

const docker = await dockerForTests();
const { skip } = docker;

const backups = Number(process.env['TARS_TEST_BACKUPS'] ?? 20);
const megabytes = 1e6;
const small: BulkProjectSizes = {
  ...{ postgresBytes: 40 * megabytes, redisBytes: 15 * megabytes, modelBytes: 40 * megabytes },
  records: 1000,
};
/** Takes minutes to load. */
const large: BulkProjectSizes = {
  ...{ postgresBytes: 1600 * megabytes, redisBytes: 500 * megabytes, modelBytes: 1800 * megabytes },
  records: 20_000,
};

const componentNames = ['chroma', 'config', 'ollama', 'postgres', 'redis'];

async function backUp(tars: TarsOn): Promise<Manifest> {
  const { stdout, stderr } = await tars.run(['backup', '--json']);
  assert.notEqual(stdout, '', stderr);
  return (JSON.parse(stdout) as { manifest: Manifest }).manifest;
}

async function takeWholeCut(tars: TarsOn): Promise<Manifest> {
  const manifest = await wholeCut(() => backUp(tars));
  assert.deepEqual(manifest.components.map(({ name }) => name).sort(), componentNames);
  const { writerPauseMs = 0 } = manifest;
  assert.ok(writerPauseMs > 0, 'the pause is recorded');
  return manifest;
}

test('a running project', { skip }, async (t) => {
  await using project = await startHome();
  await using tars = await tarsOn(project, { compose: 'v2' });
  await t.test('one cut, nobody restarted, and every write acknowledged before it comes back', () =>
    oneCut(project, tars),
  );
  await t.test(
    'a service that writes and that tars.yaml does not declare is named, and no cut is claimed',
    () => undeclaredWriter(project),
  );
  if (!isCampaign) return;
  await t.test(`writer pauses over ${backups} backups of a 100 MB stack`, () =>
    writerPauses(t, project, tars, small),
  );
});

if (isCampaign) {
  test(`writer pauses over ${backups} backups of a 4 GB stack`, { skip }, async (t) => {
    await using project = await startHome();
    await using tars = await tarsOn(project, { compose: 'v2' });
    await writerPauses(t, project, tars, large);
  });
}

const startHome = (): Promise<StartedProject> =>
  startProject({
    ...{ engine: docker.engine, prefix: 'db-', composeVersion: 'v2', file: 'tars-home' },
    env: oftenWritten,
  });

async function oneCut(project: StartedProject, tars: TarsOn): Promise<void> {
  await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
  await project.writesOn(20);
  const before = await fingerprint(project);
  const manifest = await takeWholeCut(tars);
  await project.writesOn(10);
  assert.equal(await fingerprint(project), before);
  // Docker calls it unhealthy from the pause until its next check.
  await project.waitHealthy();

  await project.compose('stop', 'backend');
  await wipe(project);
  await tars.ok(['restore', '--yes']);
  assert.equal(await project.health('backend'), 'exited', 'what did not run stays down');
  const cutMs = Date.parse(manifest.time);
  const limits = { acknowledgedBeforeMs: cutMs, nothingAfterMs: cutMs };
  const entries = await project.ledger();
  assert.deepEqual(await compareWithLedger(project, entries, limits), []);
  const late = entries.filter(({ intendedMs }) => intendedMs > cutMs);
  assert.ok(late.length > 0, 'the backend went on writing after the cut');
  assert.equal(await project.exec('ollama', ['ollama', 'list']), 'llama3.2:1b');
  await project.exec('ollama', ['ollama', 'verify']);
  await project.compose('start', 'backend');
  await project.waitHealthy();
  await project.writesOn(10);
}

async function undeclaredWriter(project: StartedProject): Promise<void> {
  const { service } = project.layout.backend;
  await using silent = await tarsOn(project, { compose: 'v2', settings: { services: {} } });
  const manifest = await backUp(silent);
  assert.equal(manifest.consistency, 'per-store');
  assert.match(
    manifest.consistencyReason ?? '',
    new RegExp(`^${service} \\((depends on|is told the address of) .*\\) may have written during the cut`),
  );
  const settings = { services: { [service]: { writer: false } } };
  await using declared = await tarsOn(project, { compose: 'v2', settings });
  const { stdout } = await declared.ok(['backup', '--dry-run', '--json']);
  assert.deepEqual((JSON.parse(stdout) as BackupPlan).writers.undeclared, []);
}

/** Takes everything out of the stores, and says so if something stayed. */
async function wipe(project: StartedProject): Promise<void> {
  const { user, database } = project.layout.postgres;
  await project.exec('postgres', ['psql', '-U', user, '-d', database, '-c', 'TRUNCATE visits']);
  await project.exec('redis', ['redis-cli', 'FLUSHALL']);
  const collections =
    'http://localhost:8000/api/v2/tenants/default_tenant/databases/default_database/collections';
  const curl = ['curl', '-fsS', '-H', 'content-type: application/json'];
  await project.exec('chromadb', [...curl, '-X', 'DELETE', `${collections}/visits`]);
  await project.exec('chromadb', [...curl, '--data-binary', '{"name":"visits"}', collections]);
  for (const store of ['postgres', 'redis', 'chroma'] as const)
    assert.deepEqual(await readStore(project, store), new Map());
}

async function writerPauses(
  t: TestContext,
  project: StartedProject,
  tars: TarsOn,
  sizes: BulkProjectSizes,
): Promise<void> {
  const { volumeBytes } = await loadBulkProject(project, sizes, campaignSeed);
  const pauses: number[] = [];
  for (let n = 0; n < backups; n++) {
    await project.writesOn(2);
    pauses.push((await takeWholeCut(tars)).writerPauseMs ?? NaN);
  }
  pauses.sort((a, b) => a - b);
  const median = pauses[Math.floor(pauses.length / 2)] ?? NaN;
  t.diagnostic(
    `${Math.round(volumeBytes / megabytes)} MB in its volumes: ${backups} backups, ` +
      `writer pause median ${median} ms, maximum ${pauses.at(-1)} ms`,
  );
}
