import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { freePort } from '../../src/demo/servers/common.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';

let root: string;
let settingsPath: string;

/** A stack of one configuration file, one dead Redis and one mislaid Chroma directory. */
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-cli-'));
  settingsPath = join(root, 'tars.yaml');
  await mkdir(join(root, 'empty-chroma'));
  await writeFile(join(root, 'app.env'), 'LOG_LEVEL=info\nAPI_TOKEN=sesame-open-0123456789\n');
  const settings = {
    version: 1,
    stack: 'small',
    repository: { path: 'repository', password_file: 'tars-recovery.key' },
    scratch_dir: root,
    state_dir: 'state',
    components: {
      redis: { port: await freePort() },
      chroma: { path: 'empty-chroma' },
      config: { files: ['app.env'] },
    },
  };
  await writeFile(settingsPath, stringify(settings));
});
after(() => rm(root, { recursive: true, force: true }));

const run = (args: string[], env: Record<string, string> = {}): Promise<CliRun> =>
  tars(['--config', settingsPath, ...args], { env });

test('a backup without a repository exits 10 and says what to do', async () => {
  await writeFile(join(root, 'other.key'), 'x');
  const { exitCode, stderr } = await run(['backup'], { TARS_PASSWORD_FILE: join(root, 'other.key') });
  assert.equal(exitCode, 10, stderr);
  assert.match(stderr, /tars init/);
});

test('init refuses to put the recovery key inside the repository, and creates neither', async () => {
  const inside = join(root, 'inside.yaml');
  const repository = join(root, 'inside-repository');
  const { exitCode, stderr } = await tars([
    ...['--config', inside, 'init', '--repository', repository],
    ...['--key-file', join(repository, 'keys', 'mine.key')],
  ]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /inside the repository/);
  await assert.rejects(stat(repository));
});

test('init shows the recovery key once, keeps it in a 0600 file, and does not repeat itself', async () => {
  const first = await run(['init']);
  assert.equal(first.exitCode, 0, first.stderr);
  const key = (await readFile(join(root, 'tars-recovery.key'), 'utf8')).trim();
  assert.ok(first.stdout.includes(key));
  assert.equal((await stat(join(root, 'tars-recovery.key'))).mode & 0o777, 0o600);
  const second = await run(['init']);
  assert.equal(second.exitCode, 1, 'there is a repository already');
  assert.ok(!`${second.stdout}${second.stderr}`.includes(key));
  assert.equal((await readFile(join(root, 'tars-recovery.key'), 'utf8')).trim(), key);
});

test('stores that cannot be captured make the snapshot partial (2), each named with its hint', async () => {
  const { exitCode, stdout, stderr } = await run(['backup', '--json']);
  assert.equal(exitCode, 2, stderr);
  const { manifest } = JSON.parse(stdout) as {
    manifest: {
      outcome: string;
      components: { name: string; outcome: string; error?: { code: string; hint?: string } }[];
    };
  };
  assert.equal(manifest.outcome, 'partial');
  const byName = Object.fromEntries(manifest.components.map((component) => [component.name, component]));
  assert.equal(byName['redis']?.error?.code, 'service-unavailable');
  assert.equal(byName['chroma']?.outcome, 'failed');
  assert.ok(byName['chroma'].error?.hint);
  assert.equal(byName['config']?.outcome, 'captured');
  const said = [...stderr.matchAll(/"level":"error","message":"(\w+) was not captured: \S/g)];
  assert.deepEqual(
    said.map(([, name]) => name),
    manifest.components.flatMap(({ name, error }) => (error === undefined ? [] : [name])),
    'among the messages too, where a crontab line keeps only those',
  );
  assert.ok(!`${stdout}${stderr}`.includes('sesame-open'), 'no secret in any output');
});

test('show and the listing say what a partial snapshot is without, and why', async () => {
  const { exitCode, stdout } = await run(['show']);
  assert.equal(exitCode, 0);
  assert.match(stdout, /^Snapshot .*, partial$/m);
  assert.match(
    stdout,
    /^redis +failed +Redis at .* does not answer: nothing listens there \(ECONNREFUSED\)$/m,
  );
  assert.match(stdout, /^chroma +failed +.*chroma\.sqlite3/m);
  assert.match(stdout, /^chroma: .*directory/m, 'what to do about it');
  assert.match((await run(['snapshots'])).stdout, / partial /);
});

test('a wrong password exits 12', async () => {
  const { exitCode, stderr } = await run(['snapshots'], { TARS_PASSWORD: 'not it' });
  assert.equal(exitCode, 12, stderr);
});

test('nothing captured at all is an error and publishes nothing', async () => {
  const before = (await run(['snapshots', '--json'])).stdout;
  const { exitCode } = await run(['backup', '--only', 'redis,chroma']);
  assert.equal(exitCode, 1);
  assert.equal((await run(['snapshots', '--json'])).stdout, before);
});

test('a restore without a terminal and without --yes refuses', async () => {
  const { exitCode, stderr } = await run(['restore', '--component', 'config']);
  assert.equal(exitCode, 1);
  assert.match(stderr, /--yes/);
});

test('a component whose capture failed cannot be asked for; the others come back', async () => {
  const refused = await run(['restore', '--component', 'redis', '--yes']);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /not captured/);
  await rm(join(root, 'app.env'));
  const restored = await run(['restore', '--yes']);
  assert.equal(restored.exitCode, 0, restored.stderr);
  assert.equal(
    await readFile(join(root, 'app.env'), 'utf8'),
    'LOG_LEVEL=info\nAPI_TOKEN=sesame-open-0123456789\n',
  );
});

test('an unknown snapshot, an ambiguous flag and a broken tars.yaml are said clearly', async () => {
  const unknown = await run(['show', 'ffffffff']);
  assert.equal(unknown.exitCode, 1);
  assert.match(unknown.stderr, /ffffffff/);
  const component = await run(['backup', '--only', 'mysql']);
  assert.match(component.stderr, /no component mysql/);
  const broken = join(root, 'broken.yaml');
  await writeFile(broken, 'version: 1\nstack: [\n');
  const parsed = await tars(['--config', broken, 'backup']);
  assert.equal(parsed.exitCode, 1);
  assert.match(parsed.stderr, /broken\.yaml is not valid YAML/);
  const missing = await tars(['--config', join(root, 'nowhere.yaml'), 'backup']);
  assert.match(missing.stderr, /tars init/);
});

test('an archive in the clear holds no secret, and a damaged one is refused before anything is touched', async () => {
  const output = join(root, 'archives');
  await mkdir(output);
  const { exitCode, stdout, stderr } = await run([
    'backup',
    '--only',
    'config',
    '--output-dir',
    output,
    '--compression',
    'none',
    '--json',
  ]);
  assert.equal(exitCode, 0, stderr);
  const { snapshot } = JSON.parse(stdout) as { snapshot: string };
  const file = join(output, `${snapshot}.tar`);
  const bytes = await readFile(file);
  assert.ok(!bytes.includes('sesame-open'));
  const sound = await tars(['check', '--backup-file', file]);
  assert.equal(sound.exitCode, 0, sound.stderr);
  await writeFile(file, bytes.subarray(0, bytes.length - 700));
  const damaged = await tars(['check', '--backup-file', file]);
  assert.equal(damaged.exitCode, 1);
  assert.match(damaged.stdout, /^Damaged: .*\n {2}1\. Check another copy of the archive/);
  const before = await readFile(join(root, 'app.env'), 'utf8');
  const restored = await run(['restore', '--backup-file', file, '--yes', '--restore-config']);
  assert.equal(restored.exitCode, 1);
  assert.equal(await readFile(join(root, 'app.env'), 'utf8'), before);
});

test('a restore from a partial snapshot names what it is without, and the newest that has it', async () => {
  const none = await run(['restore', '--dry-run']);
  assert.equal(none.exitCode, 0, none.stderr);
  assert.match(none.stdout, /does not hold redis, chroma; no other snapshot has all components/);
  const config = await run(['backup', '--only', 'config', '--json']);
  const { snapshot } = JSON.parse(config.stdout) as { snapshot: string };
  await run(['backup']);
  const other = await run(['restore', '--dry-run', '--skip', 'redis,chroma']);
  assert.doesNotMatch(other.stdout, /does not hold/, 'what is left out on request is not missed');
  const whole = join(root, 'whole.yaml');
  const settings = parse(await readFile(settingsPath, 'utf8')) as { components: object };
  const { config: only } = settings.components as { config: object };
  await writeFile(
    whole,
    stringify({ ...settings, components: { config: only, late: { ...only, kind: 'config' } } }),
  );
  assert.equal((await tars(['--config', whole, 'backup', '--json'])).exitCode, 0);
  await run(['backup', '--only', 'config']);
  const warned = await tars(['--config', whole, 'restore', '--dry-run', '--json']);
  const { warnings } = JSON.parse(warned.stdout) as { warnings: string[] };
  assert.match(
    warnings[0] ?? '',
    /does not hold late; the newest snapshot with all components is [0-9a-f]{8} of 20/,
  );
  assert.ok(!warnings[0]?.includes(snapshot.slice(0, 8)));
  const said = await tars(['--config', whole, 'restore', '--yes']);
  assert.equal(said.exitCode, 0, said.stderr);
  assert.match(said.stderr, /\[WARN\] .*does not hold late/);
});
