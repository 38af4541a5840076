// Keeps what this version of tars writes: test/fixtures/releases/VERSION, which every later version must read. Run it
// once, in the checkout of a release: node scripts/release-fixtures.ts
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { execa } from 'execa';
import assert from 'node:assert/strict';
import { access, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { noteSchedule } from '../src/composition/index.ts';
import { toolVersion } from '../src/model/version.ts';
import { openRepository } from '../src/repository/open.ts';
import { loadSettings } from '../src/composition/settings.ts';
import { createLocalStorage } from '../src/storage/local/local-storage.ts';
import { replaceKeys } from '../test/fixtures/cheap-key.ts';
import { tars, type CliRun } from '../test/fixtures/cli.ts';
import { testContext } from '../test/fixtures/context.ts';
import { dockerForTests } from '../test/fixtures/docker/engine.ts';
import { startProject } from '../test/fixtures/docker/project.ts';
import { releaseSettings } from '../test/fixtures/release-settings.ts';
import {
  assertContent,
  changeReleaseStack,
  loadReleaseStack,
  releaseDatabase,
  releasePassword,
  releaseRoot,
  releasesDirectory,
  stackDirectories,
  startReleaseStack,
  understoodSettings,
  type CutOff,
  type ReleaseRecord,
  type ReleaseStack,
  type Side,
  type Variant,
} from '../test/fixtures/release-stack.ts';
import { tarsWithFault } from '../test/fixtures/restore-stack.ts';

const target = join(releasesDirectory, toolVersion);
const checkout = join(import.meta.dirname, '..');
const ctx = testContext();
const repositoryPath = join(releaseRoot, 'repository');

await refuseExisting();
const compose = await composeSettings();
await mkdir(target, { recursive: true });
try {
  await writeSettings(compose);
  await writeStack();
} catch (error) {
  await rm(target, { recursive: true });
  throw error;
}
console.log(`${target}:\n${(await execa('du', ['-ak', target])).stdout}`);

async function refuseExisting(): Promise<void> {
  const found = await access(target).then(
    () => true,
    () => false,
  );
  if (found) throw new Error(`${target} is there: what a release wrote is not written again`);
}

function succeeded(run: CliRun): string {
  assert.equal(run.exitCode, 0, run.stderr);
  return run.stdout;
}

/** As `tars init` writes it for a Compose project. */
async function composeSettings(): Promise<string> {
  const { engine } = await dockerForTests();
  const options = { engine, prefix: 'rel-', composeVersion: 'v2', file: 'tars-home' } as const;
  await using project = await startProject(options);
  const env = {
    DOCKER_HOST: engine.host,
    TARS_PASSWORD: releasePassword,
    XDG_STATE_HOME: join(project.directory, 'state'),
  };
  succeeded(await tars(['init', '--compose', 'docker-compose.yml'], { cwd: project.directory, env }));
  const text = await readFile(join(project.directory, 'tars.yaml'), 'utf8');
  return text
    .replaceAll(project.logDir, '/var/log/tars-home')
    .replaceAll(project.directory, '/opt/tars-home')
    .replaceAll(project.name, 'tars-home');
}

/** As `tars init` writes it where there is no Compose project. */
async function initialSettings(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tars-release-'));
  try {
    const path = join(directory, 'tars.yaml');
    const env = { TARS_PASSWORD: releasePassword, XDG_STATE_HOME: directory };
    const flags = ['--stack', 'home', '--repository', join(directory, 'repository'), '--config', path];
    succeeded(await tars(['init', ...flags], { cwd: directory, env }));
    return (await readFile(path, 'utf8')).replaceAll(directory, '/etc/tars');
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function writeSettings(ofCompose: string): Promise<void> {
  const directory = join(target, 'settings');
  await mkdir(directory);
  const texts = { ...releaseSettings, init: await initialSettings(), 'init-compose': ofCompose };
  for (const [name, written] of Object.entries(texts)) {
    const text = written.replaceAll(checkout, '/usr/lib/node_modules/tars-backup');
    await writeFile(join(directory, `${name}.yaml`), text);
    const understood = JSON.stringify(understoodSettings(text), null, 2);
    await writeFile(join(directory, `${name}.json`), `${understood}\n`);
  }
}

async function writeStack(): Promise<void> {
  const identity = await generateX25519Identity();
  await writeFile(join(target, 'age-identity'), `${identity}\n`);
  await using stack = await startReleaseStack(await identityToRecipient(identity));
  await writeFile(join(releaseRoot, 'age-identity'), `${identity}\n`, { mode: 0o600 });
  succeeded(await stack.run('main', 'init'));
  await cheapenKeys();
  await writeFile(join(target, 'key'), `${releasePassword}\n`);

  await loadReleaseStack(stack);
  const a = await stack.content();
  const first = await backUp(stack, 'main', 'a');
  const archiveOfA = await archive(stack, 'other', 'a', 'zstd');
  await changeReleaseStack(stack);
  const b = await stack.content();
  const second = await backUp(stack, 'other', 'b');
  const archiveOfB = await archive(stack, 'main', 'b', 'gzip');
  await stack.redis.stop();
  const third = await backUp(stack, 'main', 'b', ['redis']);
  await stack.redis.start();

  const cutOffs = await cutOffRestores(stack, first.id, second.id, { a, b });
  await writeHistory(stack);
  await tarOf('state.tar.gz', ['state']);
  await tarOf('repository.tar.gz', ['repository']);
  const record: ReleaseRecord = {
    version: toolVersion,
    snapshots: [first, second, third],
    archives: [archiveOfA, archiveOfB],
    cutOffs,
    content: { a, b },
  };
  await writeFile(join(target, 'record.json'), `${JSON.stringify(record, null, 1)}\n`);
}

async function cheapenKeys(): Promise<void> {
  const repository = await openRepository(createLocalStorage(repositoryPath), releasePassword, ctx);
  await replaceKeys(repository, releasePassword, ctx);
}

type TakenSnapshot = ReleaseRecord['snapshots'][number];

async function backUp(
  stack: ReleaseStack,
  variant: Variant,
  side: Side,
  failed: readonly string[] = [],
): Promise<TakenSnapshot> {
  const run = await stack.run(variant, 'backup', '--json');
  assert.equal(run.exitCode, failed.length === 0 ? 0 : 2, run.stderr);
  const { snapshot: id } = JSON.parse(run.stdout) as { snapshot: string };
  return { id, side, variant, failed };
}

async function archive(
  stack: ReleaseStack,
  variant: Variant,
  side: Side,
  compression: string,
): Promise<ReleaseRecord['archives'][number]> {
  const directory = join(releaseRoot, `archive-${side}`);
  await mkdir(directory);
  succeeded(await stack.run(variant, 'backup', '--output-dir', directory, '--compression', compression));
  await cp(directory, target, { recursive: true });
  const file = (await readdir(directory)).find((name) => !name.endsWith('.sha256'));
  assert.ok(file);
  return { file, side, variant };
}

async function tarOf(file: string, paths: readonly string[]): Promise<void> {
  await execa('tar', [
    '-cz',
    '--format=posix',
    '--sort=name',
    '-f',
    join(target, file),
    '-C',
    releaseRoot,
    ...paths,
  ]);
}

/** Restores of generation `a` over `b`, killed while data was exchanged and after all of it was. */
async function cutOffRestores(
  stack: ReleaseStack,
  a: string,
  b: string,
  content: ReleaseRecord['content'],
): Promise<CutOff[]> {
  const restore = (id: string): string[] => [
    'restore',
    id,
    '--yes',
    '--restore-config',
    '--discard-previous',
  ];
  const toA = ['--config', stack.settingsPath('main'), ...restore(a)];
  const trace = join(releaseRoot, 'trace');
  const whole = await tarsWithFault(toA, { trace });
  assert.equal(whole.exitCode, 0, whole.stderr);
  const steps = (await readFile(trace, 'utf8')).trim().split('\n');
  const inTheMiddle = steps.findIndex((step) => step.startsWith('rename data.tars-new-')) + 1;
  // Each is followed by that of the way back, once all is swapped.
  const notes = steps.flatMap((step, i) => (step.startsWith('rename restore-') ? [i + 1] : []));
  const swapped = (notes[3] ?? 0) + 2;
  const cutOffs: CutOff[] = [];
  for (const [phase, step, leads] of [
    ['swapping', inTheMiddle, 'b'],
    ['swapped', swapped, 'a'],
  ] as const) {
    succeeded(await stack.run('other', ...restore(b)));
    assertContent(await stack.content(), content.b, phase);
    const run = await tarsWithFault(toA, { at: step });
    assert.equal(run.signal, 'SIGKILL', run.stderr);
    cutOffs.push(await keepCutOff(stack, phase, leads));
    const verified = await stack.run('main', 'verify', leads === 'a' ? a : b);
    assert.match(verified.stderr, /was cut off/);
    assertContent(await stack.content(), content[leads], `${phase}, recovered`);
    succeeded(await stack.run('main', 'unlock'));
  }
  return cutOffs;
}

async function keepCutOff(stack: ReleaseStack, phase: string, leads: Side): Promise<CutOff> {
  const restores = join(releaseRoot, 'state/restores');
  const entries = await Promise.all(
    (await readdir(restores))
      .filter((name) => /^restore-\w+\.json$/.test(name))
      .map(async (name) => {
        const text = await readFile(join(restores, name), 'utf8');
        return (JSON.parse(text) as { entry: { restoreId: string; phase: string } }).entry;
      }),
  );
  const [entry, ...others] = entries.filter((found) => found.phase !== 'done');
  assert.ok(entry !== undefined && others.length === 0);
  assert.equal(entry.phase, phase);
  const found = await stack.query<{ datname: string; oid: number }>(
    'postgres',
    `SELECT datname, oid FROM pg_database WHERE datname LIKE '${releaseDatabase}%' ORDER BY 1`,
  );
  // PostgreSQL is exchanged first.
  const databases = found.map(({ datname: name, oid }) => {
    const side: Side = name === releaseDatabase ? 'a' : 'b';
    return { name, oid, side };
  });
  const file = `cut-off-${phase}.tar.gz`;
  const unwanted = ['chroma/chroma.*', 'chroma/server.log'];
  await execa('tar', [
    ...['-cz', '--format=posix', '--sort=name', '-f', join(target, file), '-C', releaseRoot],
    ...unwanted.map((path) => `--exclude=${path}`),
    ...[...stackDirectories, 'state/restores'],
  ]);
  return { file, restoreId: entry.restoreId, phase, leads, databases };
}

/** One run of every kind that leaves something in the state directory. */
async function writeHistory(stack: ReleaseStack): Promise<void> {
  const surplus = await backUp(stack, 'main', 'a');
  const failed = await stack.run('main', 'forget', 'ffffffff', '--yes');
  assert.equal(failed.exitCode, 1, failed.stderr);
  succeeded(await stack.run('main', 'forget', surplus.id, '--yes', '--allow-last'));
  succeeded(await stack.run('main', 'forget', '--keep-last', '10', '--yes'));
  succeeded(await stack.run('main', 'prune'));
  const killed = await tarsWithFault(['--config', stack.settingsPath('main'), 'backup'], { at: 4 });
  assert.equal(killed.signal, 'SIGKILL', killed.stderr);
  succeeded(await stack.run('main', 'unlock'));
  succeeded(await stack.run('main', 'check', '--read-data'));
  succeeded(await stack.run('main', 'key', 'export', '--output', join(releaseRoot, 'kit.txt')));
  await noteSchedule(await loadSettings(stack.settingsPath('main'), {}), new Date());
}
