import assert from 'node:assert/strict';
import {
  chmod,
  lstat,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { execa } from 'execa';
import { parse } from 'yaml';
import type { DerivedSource } from '../../src/ports/store-place.ts';
import { createConfigComponent, type ConfigOptions } from '../../src/components/config/index.ts';
import { swapPaths, type PathSwap } from '../../src/components/paths/path-swap.ts';
import { CorruptionError, RestoreRefusedError, TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';

const root = process.getuid?.() === 0;
const secret = 'hunter2-Very-True';
let dir: string;
let live: string;
let snapshot: string;
let envFile: string;
let composeFile: string;
let warned: string[];
let ctx: OperationContext;

beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'tars-config-')));
  live = join(dir, 'etc', 'stack');
  snapshot = join(dir, 'snapshot');
  envFile = join(live, 'tars-home.env');
  composeFile = join(live, 'docker-compose.yml');
  warned = [];
  const quiet = testContext();
  ctx = { ...quiet, log: { ...quiet.log, warn: (message) => warned.push(message) } };
  await mkdir(live, { recursive: true });
  await writeFile(envFile, `POSTGRES_USER=tars\nPOSTGRES_PASSWORD=${secret} # do not lose\n`, {
    mode: 0o640,
  });
  await writeFile(composeFile, `services:\n  db:\n    command: run --password ${secret} --port 1\n`);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

function componentWith(options: Partial<ConfigOptions> = {}): Component {
  return createConfigComponent({
    name: 'config',
    files: [envFile, composeFile],
    secrets: 'repository',
    ageRecipients: [],
    ageIdentityFile: undefined,
    knownSecrets: [],
    ...options,
  });
}

async function capture(component: Component, encrypted: boolean): Promise<ComponentManifest> {
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const sink = createDirectorySink(snapshot, { encrypted });
  const report = await prepared.capture(sink, ctx);
  return {
    name: component.name,
    kind: component.kind,
    outcome: 'captured',
    facts: JSON.parse(JSON.stringify(report.facts)) as Record<string, unknown>,
    artifacts: [...sink.artifacts],
  };
}

async function stage(component: Component, from: ComponentManifest, restoreConfig = false): Promise<Staged> {
  const planned = await component.planRestore(from, { restoreConfig, restoreId: 'r1' }, ctx, noArtifacts);
  const staged = await planned.stage(createDirectorySource(snapshot), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  return staged;
}

/** Every regular file below `at`: content and mode. */
async function tree(at: string): Promise<Record<string, string>> {
  const entries = await readdir(at, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const seen = await Promise.all(
    files.sort().map(async (file) => {
      const mode = (await stat(file)).mode & 0o7777;
      return [file.slice(at.length + 1), `${mode.toString(8)} ${await readFile(file, 'latin1')}`] as const;
    }),
  );
  return Object.fromEntries(seen);
}

/** Runs `action` as a user without privileges, whoever runs the tests. */
async function withoutPrivileges(action: () => Promise<void>): Promise<void> {
  if (!root) return action();
  process.seteuid?.(65534);
  try {
    await action();
  } finally {
    process.seteuid?.(0);
  }
}

async function newIdentity(name: string): Promise<{ file: string; recipient: string }> {
  const identity = await generateX25519Identity();
  const file = join(dir, name);
  await writeFile(file, `# created: today\n${identity}\n`, { mode: 0o600 });
  return { file, recipient: await identityToRecipient(identity) };
}

test('into a repository: redacted views and true copies, restored with content, mode, owner and time', async () => {
  const component = componentWith();
  const before = await tree(live);
  await utimes(envFile, new Date(), new Date('2001-02-03T04:05:06Z'));
  const stats = await stat(envFile);
  const manifest = await capture(component, true);
  const stored = await tree(join(snapshot, 'config'));
  const [shownEnv = '', shownCompose = ''] = [envFile, composeFile].map((path) => stored[`redacted${path}`]);
  assert.match(shownEnv, /POSTGRES_PASSWORD=\[redacted\] # do not lose/);
  assert.deepEqual(parse(shownCompose.slice(4)), {
    services: { db: { command: 'run --password [redacted] --port 1' } },
  });

  await rm(join(dir, 'etc'), { recursive: true });
  const staged = await stage(component, manifest);
  assert.equal((await stat(`${envFile}.tars-new-r1`)).mode & 0o777, 0o600);
  await staged.swap(ctx);
  assert.deepEqual(await tree(live), before);
  const restored = await stat(envFile);
  assert.deepEqual([restored.uid, restored.gid], [stats.uid, stats.gid]);
  assert.equal(restored.mtimeMs, stats.mtimeMs);
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), []);

  await component.generation(staged.record).undo(ctx);
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual((await readdir(dir)).sort(), ['snapshot']);
});

test('a file that differs is left with a warning, and replaced and kept aside only when asked', async () => {
  const component = componentWith();
  const manifest = await capture(component, true);
  await writeFile(envFile, 'EDITED=1\n');
  const before = await tree(live);

  const planned = await component.planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  assert.match(planned.plan.warnings.join('\n'), /tars-home\.env differs.*--restore-config/);
  await (await stage(component, manifest)).swap(ctx);
  assert.deepEqual(await tree(live), before);
  assert.match(warned.join('\n'), /--restore-config/);
  const findings = await component.verify(manifest, ctx, noArtifacts);
  assert.deepEqual(
    findings.map(({ severity, code }) => `${severity} ${code}`),
    ['warning file-differs'],
  );

  const staged = await stage(component, manifest, true);
  await staged.swap(ctx);
  assert.match(await readFile(envFile, 'utf8'), new RegExp(secret));
  assert.equal(await readFile(`${envFile}.tars-prev-r1`, 'utf8'), 'EDITED=1\n');
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), []);
  const record = JSON.parse(JSON.stringify(staged.record)) as typeof staged.record;
  assert.ok(!JSON.stringify(record).includes(secret));
  await component.generation(record).undo(ctx);
  assert.deepEqual(await tree(live), before);
});

test('discarding the previous files leaves only the restored ones', async () => {
  const component = componentWith();
  const manifest = await capture(component, true);
  const before = await tree(live);
  await writeFile(envFile, 'EDITED=1\n');
  const staged = await stage(component, manifest, true);
  await staged.swap(ctx);
  await component.generation(staged.record).discardPrevious(ctx);
  assert.deepEqual(await tree(live), before);
});

test('undo works from every point at which a crash can leave the swap', async () => {
  const component = componentWith();
  const manifest = await capture(component, true);
  await writeFile(envFile, 'EDITED=1\n');
  await rm(composeFile);
  const before = await tree(live);
  for (let done = 0; done <= 2; done++) {
    const staged = await stage(component, manifest, true);
    await swapPaths((staged.record.details['swaps'] as PathSwap[]).slice(0, done));
    await component.generation(staged.record).undo(ctx);
    assert.deepEqual(await tree(live), before, `after ${done} swaps`);
  }
  const staged = await stage(component, manifest, true);
  const [first] = staged.record.details['swaps'] as PathSwap[];
  await rename(first!.live, first!.previous);
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual(await tree(live), before, 'between the two renames');
});

test('what was staged is discarded without a trace', async () => {
  const component = componentWith();
  const manifest = await capture(component, true);
  await rm(join(dir, 'etc'), { recursive: true });
  await (await stage(component, manifest)).discard(ctx);
  assert.deepEqual(await readdir(dir), ['snapshot']);
});

test('an archive in the clear holds no secret, no hash and no length of the true files, and says so', async () => {
  const component = componentWith();
  const manifest = await capture(component, false);
  assert.equal(manifest.facts['trueCopy'], 'none');
  assert.match(warned.join('\n'), /not stored, because an archive is not encrypted/);
  const everything = JSON.stringify([await tree(snapshot), manifest]);
  assert.ok(!everything.includes(secret));
  assert.deepEqual(
    (manifest.facts['files'] as object[])
      .flatMap((file) => Object.keys(file))
      .filter((key) => /sha|size/.test(key)),
    [],
  );

  const before = await tree(live);
  const staged = await stage(component, manifest, true);
  await staged.swap(ctx);
  assert.equal((await stat(`${envFile}.redacted-r1`)).mode & 0o777, 0o600);
  assert.match(await readFile(`${envFile}.redacted-r1`, 'utf8'), /\[redacted\]/);
  assert.match(await readFile(envFile, 'utf8'), new RegExp(secret), 'the live file stays');
  assert.deepEqual(
    (await component.verify(manifest, ctx, noArtifacts)).map((finding) => finding.code),
    ['hashes-withheld'],
  );
  await component.generation(staged.record).undo(ctx);
  assert.deepEqual(await tree(live), before);
});

test('redact-only keeps no true copy even in a repository', async () => {
  const manifest = await capture(componentWith({ secrets: 'redact-only' }), true);
  assert.ok(!JSON.stringify(await tree(snapshot)).includes(secret));
  assert.match(String(manifest.facts['trueCopyReason']), /redact-only/);
  assert.match(warned.join('\n'), /true configuration is not stored, because secrets is set to redact-only/);
});

test('sealed for several recipients, each of whom opens it with stock age and restores it', async () => {
  const identities = await Promise.all(['one.txt', 'two.txt'].map((name) => newIdentity(name)));
  const stranger = await newIdentity('three.txt');
  const ageRecipients = identities.map(({ recipient }) => recipient);
  const before = await tree(live);
  const manifest = await capture(componentWith({ secrets: 'sealed', ageRecipients }), true);
  const sealed = join(snapshot, 'config', 'sealed.age');
  for (const { file } of identities) {
    const { stdout } = await execa('age', ['-d', '-i', file, sealed], { encoding: 'buffer' });
    const listed = await execa('tar', ['-t'], { input: stdout });
    assert.deepEqual(listed.stdout.split('\n'), [envFile.slice(1), composeFile.slice(1)]);
    await rm(live, { recursive: true });
    const staged = await stage(componentWith({ ageIdentityFile: file }), manifest);
    await staged.swap(ctx);
    assert.deepEqual(await tree(live), before);
  }
  await assert.rejects(execa('age', ['-d', '-i', stranger.file, sealed]), /no identity matched/);
});

for (const encrypted of [true, false]) {
  test(`sealed ${encrypted ? 'in a repository' : 'in an archive'}: stock age opens it, and it restores`, async () => {
    const { file, recipient } = await newIdentity('key.txt');
    const component = componentWith({
      secrets: encrypted ? 'sealed' : 'repository',
      ageRecipients: [recipient],
      ageIdentityFile: file,
    });
    const before = await tree(live);
    const manifest = await capture(component, encrypted);
    assert.equal(manifest.facts['trueCopy'], 'sealed');
    assert.ok(!JSON.stringify([await tree(snapshot), manifest]).includes(secret));
    const sealed = join(snapshot, 'config', 'sealed.age');
    const { stdout } = await execa('age', ['-d', '-i', file, sealed], { encoding: 'buffer' });
    const plain = join(dir, 'plain');
    await mkdir(plain);
    await execa('tar', ['-xp', '-C', plain], { input: stdout });
    assert.deepEqual(await tree(join(plain, live)), before);

    await rm(live, { recursive: true });
    await (await stage(component, manifest)).swap(ctx);
    assert.deepEqual(await tree(live), before);
  });
}

for (const armoured of [true, false]) {
  test(`an archive made by tar and stock age${armoured ? ' with armour' : ''} restores`, async () => {
    const { file, recipient } = await newIdentity('key.txt');
    const component = componentWith({ ageRecipients: [recipient], ageIdentityFile: file });
    const before = await tree(live);
    const manifest = await capture(component, false);
    const sealed = join(snapshot, 'config', 'sealed.age');
    await rm(sealed);
    const tar = await execa('tar', ['-c', '-C', '/', `.${live}`], { encoding: 'buffer' });
    await execa('age', [...(armoured ? ['-a'] : []), '-r', recipient, '-o', sealed], { input: tar.stdout });
    await rm(live, { recursive: true });
    await (await stage(component, manifest)).swap(ctx);
    assert.deepEqual(await tree(live), before);
  });
}

test('a sealed restore without, with a wrong, or with a broken identity is refused and touches nothing', async () => {
  const { file, recipient } = await newIdentity('key.txt');
  const other = await newIdentity('other.txt');
  const manifest = await capture(componentWith({ ageRecipients: [recipient], ageIdentityFile: file }), false);
  await rm(live, { recursive: true });
  const refusal = (pattern: RegExp) => (error: unknown) => {
    assert.ok(error instanceof RestoreRefusedError);
    assert.match(error.message, pattern);
    assert.ok(error.hint !== undefined);
    assert.ok(!/AGE-SECRET-KEY/.test(error.message));
    return true;
  };
  await assert.rejects(stage(componentWith(), manifest), refusal(/sealed for an age recipient/));
  await assert.rejects(
    stage(componentWith({ ageIdentityFile: other.file }), manifest),
    refusal(/no identity in/),
  );
  await assert.rejects(
    stage(componentWith({ ageIdentityFile: join(dir, 'no') }), manifest),
    refusal(/Cannot read/),
  );
  await writeFile(other.file, 'AGE-SECRET-KEY-1BROKEN\n');
  await assert.rejects(
    stage(componentWith({ ageIdentityFile: other.file }), manifest),
    refusal(/age identities/),
  );
  await assert.rejects(stat(live), /ENOENT/);

  const sealed = join(snapshot, 'config', 'sealed.age');
  const bytes = await readFile(sealed);
  bytes[bytes.length - 5]! ^= 1;
  await writeFile(sealed, bytes);
  await assert.rejects(stage(componentWith({ ageIdentityFile: file }), manifest), CorruptionError);
});

test('a true copy that is not what was captured is refused', async () => {
  const component = componentWith();
  const manifest = await capture(component, true);
  await rm(live, { recursive: true });
  await chmod(join(snapshot, 'config', 'true', envFile), 0o600);
  await writeFile(join(snapshot, 'config', 'true', envFile), 'tampered');
  await assert.rejects(stage(component, manifest), CorruptionError);
  await assert.rejects(stat(live), /ENOENT/);
});

test('a file that cannot be read fails the capture and is named', async () => {
  const missing = join(live, 'gone.env');
  await assert.rejects(capture(componentWith({ files: [envFile, missing] }), true), (error) => {
    assert.ok(error instanceof TarsError);
    assert.match(error.message, new RegExp(`Cannot read the configuration file ${missing}`));
    return true;
  });
  await assert.rejects(capture(componentWith({ files: [live] }), true), /not a regular file/);
  const pipe = join(live, 'pipe');
  await execa('mkfifo', [pipe]);
  await assert.rejects(capture(componentWith({ files: [pipe] }), true), /not a regular file/);
});

test('a file without read permission fails the capture and is named', async () => {
  await chmod(dir, 0o755);
  await chmod(envFile, 0);
  await withoutPrivileges(() =>
    assert.rejects(capture(componentWith(), true), new RegExp(`Cannot read.*${envFile}.*EACCES`)),
  );
});

test('more than 16 MiB together is refused, naming the file', async () => {
  const big = join(live, 'big.conf');
  await writeFile(big, '');
  await truncate(big, 16 * 2 ** 20);
  await assert.rejects(
    capture(componentWith({ files: [envFile, big] }), true),
    new RegExp(`${big}.*exceeds`),
  );
});

test('only configured files are restored', async () => {
  const manifest = await capture(componentWith(), true);
  await rm(live, { recursive: true });
  const component = componentWith({ files: [envFile] });
  const planned = await component.planRestore(
    manifest,
    { restoreConfig: true, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  assert.match(
    planned.plan.warnings.join('\n'),
    /docker-compose\.yml is in the snapshot and is not restored/,
  );
  await (await stage(component, manifest)).swap(ctx);
  assert.deepEqual(await readdir(live), ['tars-home.env']);
  const facts = structuredClone(manifest.facts) as { files: { path: string }[] };
  facts.files[0]!.path = `${live}/../../../escape`;
  await assert.rejects(
    component.planRestore({ ...manifest, facts }, { restoreConfig: true, restoreId: 'r1' }, ctx, noArtifacts),
    CorruptionError,
  );
});

test('a linked file is captured and replaced behind its link', async () => {
  const link = join(live, 'linked.env');
  await symlink('tars-home.env', link);
  const component = componentWith({ files: [link] });
  const manifest = await capture(component, true);
  await writeFile(envFile, 'EDITED=1\n');
  await (await stage(component, manifest, true)).swap(ctx);
  assert.ok((await lstat(link)).isSymbolicLink());
  assert.match(await readFile(envFile, 'utf8'), new RegExp(secret));
});

test('bytes that are no UTF-8 survive, and are redacted too', async () => {
  const bytes = Buffer.concat([Buffer.from([0xff, 0xfe, 0x0a]), Buffer.from(`password = ${secret}\n`)]);
  const file = join(live, 'odd.ini');
  await writeFile(file, bytes);
  const component = componentWith({ files: [file] });
  const manifest = await capture(component, true);
  const shown = await readFile(join(snapshot, 'config', 'redacted', file));
  assert.ok(!shown.includes(secret));
  assert.deepEqual([...shown.subarray(0, 3)], [0xff, 0xfe, 0x0a]);
  await rm(file);
  await (await stage(component, manifest)).swap(ctx);
  assert.deepEqual(await readFile(file), bytes);
});

test('options that cannot work are refused before anything is read', async () => {
  await assert.rejects(componentWith({ secrets: 'sealed' }).prepare(ctx), /no age recipients/);
  await assert.rejects(
    componentWith({ ageRecipients: ['age1nonsense'] }).prepare(ctx),
    /not an age recipient/,
  );
  const ssh = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZpcnN0LXB1YmxpYy1rZXktb2YtdGFycy1ob21lLTE tars@home';
  await assert.rejects(componentWith({ ageRecipients: [ssh] }).prepare(ctx), /not an age recipient/);
  await assert.rejects(componentWith({ files: ['a.env'] }).prepare(ctx), /not an absolute path/);
});

test('what only runs is kept as a file beside the others, shown without values, and restored where nothing runs any more', async () => {
  let running = true;
  const text = `WORD='captured value'\n`;
  const derived: DerivedSource = {
    fileName: '.env.tars',
    read: () => Promise.resolve(running ? { directory: live, names: ['WORD'], text } : undefined),
  };
  const component = componentWith({ derived });
  const path = join(live, '.env.tars');
  const manifest = await capture(component, true);
  const stored = await tree(join(snapshot, 'config'));
  assert.equal(stored[`true${path}`], `600 ${text}`);
  assert.equal(stored[`redacted${path}`], '600 WORD=[redacted]\n');
  assert.doesNotMatch(JSON.stringify(manifest), /captured value/);
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), [], 'nobody misses it');

  const planAt = async (at = component) =>
    at.planRestore(manifest, { restoreConfig: false, restoreId: 'r1' }, ctx, createDirectorySource(snapshot));
  assert.doesNotMatch((await planAt()).plan.steps.join('\n'), /\.env\.tars/, 'while it runs nobody needs it');
  running = false;
  const planned = await planAt();
  assert.ok(planned.plan.steps.includes(`Restore ${path}`), planned.plan.steps.join('\n'));
  assert.match(planned.plan.warnings.join('\n'), /\.env\.tars holds WORD, which no captured file defines/);
  const staged = await planned.stage(createDirectorySource(snapshot), ctx);
  await staged.swap(ctx);
  assert.equal((await tree(live))['.env.tars'], `600 ${text}`);
  assert.deepEqual(await component.verify(manifest, ctx, noArtifacts), []);
  await component.generation(staged.record).undo(ctx);
  assert.equal((await tree(live))['.env.tars'], undefined);

  // A snapshot cannot choose another place to write to, and what knows of no such file writes none.
  const elsewhere = join(dir, 'elsewhere');
  await mkdir(elsewhere);
  await cp(composeFile, join(elsewhere, 'compose.yml'));
  for (const other of [componentWith({ derived, files: [join(elsewhere, 'compose.yml')] }), componentWith()])
    assert.doesNotMatch((await planAt(other)).plan.steps.join('\n'), /\.env\.tars/);

  running = true;
  await rm(snapshot, { recursive: true });
  for (const options of [{ secrets: 'redact-only' as const }, {}]) {
    const plain = await capture(componentWith({ derived, ...options }), options.secrets !== undefined);
    assert.doesNotMatch(JSON.stringify([plain, await tree(snapshot)]), /\.env\.tars|captured value/);
    await rm(snapshot, { recursive: true });
  }
  const { recipient } = await newIdentity('identity');
  const sealed = await capture(componentWith({ derived, ageRecipients: [recipient] }), false);
  assert.doesNotMatch(JSON.stringify([sealed, await tree(snapshot)]), /captured value/);
  assert.match(JSON.stringify(sealed.facts), /"names":\["WORD"\]/);
});
