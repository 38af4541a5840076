import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { createOllamaComponent, type OllamaOptions } from '../../src/components/ollama/index.ts';
import { swapPaths, type PathSwap } from '../../src/components/paths/path-swap.ts';
import { CorruptionError, RestoreRefusedError, TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Staged } from '../../src/ports/component.ts';
import {
  createDirectorySink,
  createDirectorySource,
  createEmptyingSink,
  noArtifacts,
} from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const root = process.getuid?.() === 0;
let dir: string;
let store: string;
let snapshot: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tars-ollama-'));
  store = join(dir, 'models');
  snapshot = join(dir, 'snapshot');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const hex = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');

const componentFor = (
  models: OllamaOptions['models'],
  path = store,
): ReturnType<typeof createOllamaComponent> =>
  createOllamaComponent({ name: 'ollama', service: 'ollama', path, url: undefined, models });

/** Writes a model as Ollama does: blobs by hash, and a manifest without (pulled) or with (created) a newline. */
async function addModel(
  path: string,
  layers: readonly string[],
  { origin = 'pulled', from }: { origin?: 'pulled' | 'created'; from?: string } = {},
): Promise<void> {
  const describe = (content: string): Record<string, unknown> => ({
    mediaType: 'application/vnd.ollama.image.model',
    digest: `sha256:${hex(content)}`,
    size: Buffer.byteLength(content),
    ...(from === undefined ? {} : { from }),
  });
  const config = JSON.stringify({ model_format: 'gguf', of: path });
  await mkdir(join(store, 'blobs'), { recursive: true });
  for (const content of [...layers, config])
    await writeFile(join(store, 'blobs', `sha256-${hex(content)}`), content);
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    config: describe(config),
    layers: layers.map(describe),
  });
  const file = join(store, 'manifests', path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, origin === 'created' ? `${manifest}\n` : manifest);
}

const llama = 'registry.ollama.ai/library/llama3/8b';
const embed = 'registry.ollama.ai/library/nomic-embed-text/latest';
const own = 'registry.ollama.ai/library/tars/latest';

async function fillStore(): Promise<void> {
  await addModel(llama, ['llama weights', 'shared licence']);
  await addModel(embed, ['embedding weights', 'shared licence']);
  await addModel(own, ['llama weights', 'You are TARS. Humour 75%.'], { origin: 'created' });
  await writeFile(join(store, 'blobs', 'sha256-abc-partial-0'), 'half a download');
  await writeFile(join(dir, 'id_ed25519'), 'PRIVATE');
}

async function capture(
  models: OllamaOptions['models'],
  between?: () => Promise<void>,
): Promise<ComponentManifest> {
  const component = componentFor(models);
  await using prepared = await component.prepare(ctx);
  assert.equal(prepared.pointInTime, 'cut');
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  await between?.();
  const sink = createDirectorySink(snapshot, { encrypted: true });
  const report = await prepared.capture(sink, ctx);
  return {
    name: 'ollama',
    kind: 'ollama',
    outcome: 'captured',
    ...(report.incomplete === undefined ? {} : { incomplete: report.incomplete }),
    facts: JSON.parse(JSON.stringify(report.facts)) as Record<string, unknown>,
    artifacts: [...sink.artifacts],
  };
}

async function stage(manifest: ComponentManifest, restoreId = 'r1'): Promise<Staged> {
  const component = componentFor('all');
  const planned = await component.planRestore(
    manifest,
    { restoreConfig: false, restoreId },
    ctx,
    noArtifacts,
  );
  assert.deepEqual(planned.plan.requires.stopped, ['ollama']);
  const staged = await planned.stage(createDirectorySource(snapshot), ctx);
  assert.deepEqual(await staged.verify(ctx), []);
  return staged;
}

/** Every file below `at` with its content. */
async function tree(at: string): Promise<Record<string, string>> {
  const entries = await readdir(at, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const contents = await Promise.all(
    files.sort().map(async (file) => [file.slice(at.length + 1), await readFile(file, 'utf8')] as const),
  );
  return Object.fromEntries(contents);
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

/** The store as Ollama leaves it after a start: blobs that no manifest names are deleted. */
async function pruneLikeOllama(): Promise<void> {
  const files = await tree(join(store, 'manifests'));
  const named = Object.values(files).join('\n');
  for (const name of await readdir(join(store, 'blobs')))
    if (!named.includes(name.replace('-', ':'))) await rm(join(store, 'blobs', name));
}

test('a wiped store comes back byte for byte, without partial downloads and keys', async () => {
  await fillStore();
  const before = await tree(store);
  delete before['blobs/sha256-abc-partial-0'];
  const manifest = await capture('all');
  const stored = Object.keys(await tree(snapshot));
  assert.ok(!stored.some((path) => path.includes('partial') || path.includes('id_ed25519')));
  assert.equal(stored.length, Object.keys(before).length);

  await rm(store, { recursive: true });
  const staged = await stage(manifest);
  await staged.swap(ctx);
  assert.deepEqual(await tree(store), before);
  assert.deepEqual(await readdir(store), ['blobs', 'manifests']);
  assert.deepEqual(await componentFor('all').verify(manifest, ctx, noArtifacts), []);

  await componentFor('all').generation(staged.record).undo(ctx);
  assert.ok(!(await readdir(dir)).includes('models'), 'undo leaves nothing where nothing was');
});

test('verify reports a damaged blob, a changed manifest and a missing model', async () => {
  await fillStore();
  const manifest = await capture('all');
  await writeFile(join(store, 'blobs', `sha256-${hex('embedding weights')}`), 'embedding weighty');
  await rm(join(store, 'manifests', llama));
  await addModel(own, ['changed']);
  const findings = await componentFor('all').verify(manifest, ctx, noArtifacts);
  assert.deepEqual(findings.map((f) => `${f.severity} ${f.code}`).sort(), [
    'error blob-damaged',
    'error model-differs',
    'error model-missing',
  ]);
});

test('a replaced model keeps its blobs through a start of Ollama, so that undo brings it back', async () => {
  await fillStore();
  const manifest = await capture('all');
  await addModel(llama, ['newer llama weights', 'shared licence']);
  await addModel('registry.ollama.ai/library/extra/latest', ['extra weights']);
  await rm(join(store, 'blobs', 'sha256-abc-partial-0'));
  await pruneLikeOllama();
  const before = await tree(store);

  const staged = await stage(manifest);
  await staged.swap(ctx);
  await pruneLikeOllama();
  const after = await tree(store);
  assert.ok('manifests/registry.ollama.ai/library/extra/latest' in after, 'models not in the snapshot stay');
  assert.deepEqual(await componentFor('all').verify(manifest, ctx, noArtifacts), []);
  assert.ok(!(`blobs/sha256-${hex('newer llama weights')}` in after));

  const record = JSON.parse(JSON.stringify(staged.record)) as typeof staged.record;
  const generation = componentFor('all').generation(record);
  await generation.undo(ctx);
  await generation.undo(ctx);
  await pruneLikeOllama();
  assert.deepEqual(await tree(store), before);
  assert.deepEqual(await readdir(store), ['blobs', 'manifests']);
});

test('discarding the previous data leaves only the store', async () => {
  await fillStore();
  const manifest = await capture('all');
  await addModel(llama, ['newer llama weights']);
  const staged = await stage(manifest);
  await staged.swap(ctx);
  const generation = componentFor('all').generation(staged.record);
  await generation.discardPrevious(ctx);
  await generation.discardPrevious(ctx);
  assert.deepEqual(await readdir(store), ['blobs', 'manifests']);
  assert.deepEqual(await componentFor('all').verify(manifest, ctx, noArtifacts), []);
});

test('undo works from every point at which a crash can leave the swap', async () => {
  await fillStore();
  const manifest = await capture('all');
  await addModel(llama, ['newer llama weights']);
  await rm(join(store, 'manifests', embed));
  await writeFile(join(store, 'blobs', `sha256-${hex('embedding weights')}`), 'rotten');
  await rm(join(store, 'blobs', `sha256-${hex('shared licence')}`));
  const before = await tree(store);
  for (let done = 0; ; done++) {
    const staged = await stage(manifest);
    const swaps = staged.record.details['swaps'] as PathSwap[];
    await swapPaths(swaps.slice(0, done));
    await componentFor('all').generation(staged.record).undo(ctx);
    assert.deepEqual(await tree(store), before, `after ${done} of ${swaps.length} moves`);
    assert.deepEqual((await readdir(store)).sort(), ['blobs', 'manifests']);
    if (done === swaps.length) break;
  }
});

test('discarding what was staged leaves the store as it was', async () => {
  await fillStore();
  const manifest = await capture('all');
  await rm(join(store, 'manifests', llama));
  await rm(join(store, 'blobs', `sha256-${hex('shared licence')}`));
  const before = await tree(store);
  const staged = await stage(manifest);
  assert.notDeepEqual(await tree(store), before);
  await staged.discard(ctx);
  assert.deepEqual(await tree(store), before);
});

test('a right blob is left alone and a wrong one of the same size is moved aside', async () => {
  await fillStore();
  const manifest = await capture('all');
  const right = join(store, 'blobs', `sha256-${hex('llama weights')}`);
  const wrong = join(store, 'blobs', `sha256-${hex('embedding weights')}`);
  const { ino } = await stat(right);
  await writeFile(wrong, 'Embedding weights');
  const staged = await stage(manifest);
  await staged.swap(ctx);
  assert.equal((await stat(right)).ino, ino);
  assert.equal(await readFile(wrong, 'utf8'), 'embedding weights');
  const previous = await tree(join(store, '.tars-prev-r1'));
  assert.deepEqual(Object.values(previous), ['Embedding weights']);
});

test('a damaged blob in the snapshot stops the staging and nothing of it remains', async () => {
  await fillStore();
  const manifest = await capture('all');
  await writeFile(join(snapshot, 'ollama', 'blobs', `sha256-${hex('llama weights')}`), 'llama weightz');
  await rm(store, { recursive: true });
  await assert.rejects(stage(manifest), (error) => {
    assert.ok(error instanceof CorruptionError);
    assert.match(error.message, /llama3:8b|tars:latest/);
    return true;
  });
  assert.deepEqual(await readdir(dir), ['id_ed25519', 'snapshot']);
});

test('a model that is damaged or cannot be read costs itself, the others are captured and the snapshot is partial', async () => {
  await fillStore();
  const loops = ['registry.ollama.ai/library/loop/latest', 'registry.ollama.ai/library/odd@sha256/latest'];
  await writeFile(join(store, 'blobs', `sha256-${hex('llama weights')}`), 'llama weightz');
  await addModel(loops[1] ?? '', ['behind a link']);
  const blob = join(store, 'blobs', `sha256-${hex('behind a link')}`);
  const manifest = join(store, 'manifests', loops[0] ?? '');
  await mkdir(dirname(manifest));
  for (const path of [blob, manifest]) {
    await rm(path, { force: true });
    // Nobody can read it, not even root.
    await symlink(path, path);
  }
  const { warnings } = await componentFor('all').probe(ctx);
  assert.equal(warnings.filter((warning) => /cannot be read/.test(warning)).length, 2);
  const captured = await capture('all');
  const said = (captured.incomplete?.named ?? []).map(({ path, reason }) => `${path}: ${reason}`).sort();
  for (const expected of [
    /^llama3:8b: .*damaged/,
    /^loop:latest: .*ELOOP/,
    /^odd@sha256:latest: .*ELOOP/,
    /^tars:latest/,
  ])
    assert.match(said.shift() ?? '', expected);
  assert.deepEqual(said, []);
  assert.equal(captured.incomplete?.count, 4);
  const { models } = captured.facts as { models: { name: string }[] };
  assert.deepEqual(
    models.map(({ name }) => name),
    ['nomic-embed-text:latest'],
  );
  // Those that are not in the snapshot are named, and no error.
  const findings = await componentFor('all').verify(captured, ctx, noArtifacts);
  assert.deepEqual(new Set(findings.map(({ severity }) => severity)), new Set(['warning']));
  for (const path of ['blobs', 'manifests']) await rm(join(store, path), { recursive: true });
  await (await stage(captured)).swap(ctx);
  assert.ok((await readdir(join(store, 'blobs'))).includes(`sha256-${hex('embedding weights')}`));
});

/** What a listing of the store says that it cannot read, and what of the rest is captured. */
async function namedAndStored(captured: ComponentManifest): Promise<{ named: string[]; stored: string[] }> {
  const { warnings } = await componentFor('all').probe(ctx);
  const { models, incomplete } = captured.facts as {
    models: { name: string }[];
    incomplete: { name: string; reason: string }[];
  };
  // The dry run and doctor name the same as the backup.
  for (const { name } of incomplete)
    assert.ok(warnings.some((warning) => warning.startsWith(`${name} will not be captured`), name));
  return {
    named: incomplete.map(({ name, reason }) => `${name}: ${reason}`).sort(),
    stored: models.map(({ name }) => name).sort(),
  };
}

test('a directory of manifests or a blob that is something else costs itself, and is named', async () => {
  await fillStore();
  const library = join(store, 'manifests', 'registry.ollama.ai', 'library');
  // A container that mounts a file which is not there leaves a directory in its place.
  await mkdir(join(library, 'llama3', '70b'));
  const blob = join(store, 'blobs', `sha256-${hex('embedding weights')}`);
  await rm(blob);
  await mkdir(blob);
  // Nobody writes into these.
  execFileSync('mkfifo', [join(library, 'llama3', 'pipe')]);
  await writeFile(join(library, 'README'), 'not a model');
  await symlink(join(dir, 'a disk that is not mounted'), join(store, 'manifests', 'registry.example'));
  const captured = await capture('all');
  const { named, stored } = await namedAndStored(captured);
  for (const expected of [
    /^llama3:70b: its manifest is a directory$/,
    /^llama3:pipe: its manifest is not JSON$/,
    /^nomic-embed-text:latest: its blob .* cannot be read: it is not a regular file$/,
    /^the directory manifests\/registry\.example: it cannot be listed: ENOENT/,
    /^the file manifests\/registry\.ollama\.ai\/library\/README: Ollama keeps a directory there/,
  ])
    assert.match(named.shift() ?? '', expected);
  assert.deepEqual(named, []);
  assert.deepEqual(stored, ['llama3:8b', 'tars:latest']);
  // A file that Ollama ignores hides no model.
  assert.deepEqual(captured.incomplete?.named.map(({ path }) => path).sort(), [
    'llama3:70b',
    'nomic-embed-text:latest',
    'the directory manifests/registry.example',
  ]);
});

test('a directory that this user may not list costs what is in it', async () => {
  await fillStore();
  await mkdir(snapshot);
  await chmod(snapshot, 0o777);
  await chmod(dir, 0o755);
  const closed = join(store, 'manifests', dirname(embed));
  await chmod(closed, 0);
  await withoutPrivileges(async () => {
    const captured = await capture('all');
    const { named, stored } = await namedAndStored(captured);
    assert.equal(named.length, 1);
    assert.match(
      named[0] ?? '',
      /^the directory manifests\/.*\/nomic-embed-text: it cannot be listed: EACCES/,
    );
    assert.deepEqual(stored, ['llama3:8b', 'tars:latest']);
    assert.equal(captured.incomplete?.count, 1);
  });
  await chmod(closed, 0o755);
  await rm(join(snapshot, 'ollama'), { recursive: true });
  const whole = await capture('all');
  await chmod(closed, 0);
  await withoutPrivileges(async () => {
    const findings = await componentFor('all').verify(whole, ctx, noArtifacts);
    assert.deepEqual(
      findings.map(({ severity, message }) => `${severity}: ${message.replace(/: EACCES.*/s, '')}`),
      ['error: nomic-embed-text:latest differs from the captured model: it cannot be listed'],
    );
  });
});

test('a restore moves no blob aside that a model which cannot be read may need', async () => {
  await addModel(llama, ['llama weights', 'shared licence']);
  const manifest = await capture('all');
  await addModel(llama, ['newer llama weights', 'shared licence']);
  await addModel(embed, ['newer llama weights']);
  const unread = join(store, 'manifests', embed);
  await rm(unread);
  await symlink(unread, unread);
  await assert.rejects(stage(manifest), (error) => {
    assert.ok(error instanceof RestoreRefusedError);
    assert.match(error.message, /nomic-embed-text:latest/);
    return true;
  });
  await rm(unread);
  await (await stage(manifest)).swap(ctx);
});

test('manifests that are a file are no empty store', async () => {
  await fillStore();
  await rm(join(store, 'manifests'), { recursive: true });
  await writeFile(join(store, 'manifests'), '');
  await assert.rejects(
    capture('all'),
    (error) => error instanceof TarsError && /the file manifests/.test(error.message),
  );
});

test('a store of which nothing can be captured is an error', async () => {
  await addModel(llama, ['llama weights']);
  await writeFile(join(store, 'blobs', `sha256-${hex('llama weights')}`), 'llama weightz');
  await assert.rejects(
    capture('all'),
    (error) =>
      error instanceof TarsError &&
      error.code === 'capture-failed' &&
      /llama3:8b.*damaged/.test(error.message),
  );
});

test('a model that could not run is left out and named; the others are captured', async () => {
  await fillStore();
  await rm(join(store, 'blobs', `sha256-${hex('embedding weights')}`));
  await writeFile(join(store, 'manifests', dirname(llama), 'broken'), '{"schemaVersion":2,');
  const warned: string[] = [];
  const probe = await componentFor('all').probe({ ...ctx, log: { ...ctx.log, warn: (m) => warned.push(m) } });
  assert.equal(probe.warnings.length, 2);
  const manifest = await capture('all');
  const { incomplete, models } = manifest.facts as {
    incomplete: { name: string; reason: string }[];
    models: { name: string }[];
  };
  assert.deepEqual(incomplete.map((entry) => entry.name).sort(), [
    'llama3:broken',
    'nomic-embed-text:latest',
  ]);
  assert.deepEqual(models.map((model) => model.name).sort(), ['llama3:8b', 'tars:latest']);
  assert.ok(!manifest.artifacts.some((artifact) => artifact.path.includes('nomic')));
});

test('what Ollama removes after the mark is still captured as it was', async () => {
  await fillStore();
  const before = await tree(store);
  const manifest = await capture('all', async () => {
    await addModel(llama, ['newer llama weights']);
    await rm(join(store, 'blobs', `sha256-${hex('shared licence')}`));
    await rm(join(store, 'manifests', embed));
  });
  await rm(store, { recursive: true });
  await (await stage(manifest)).swap(ctx);
  delete before['blobs/sha256-abc-partial-0'];
  assert.deepEqual(await tree(store), before);
});

test('list stores local models whole and only the manifests of what can be pulled again', async () => {
  await fillStore();
  await addModel('registry.ollama.ai/library/derived/latest', ['llama weights', 'A system prompt'], {
    from: 'llama3:8b',
  });
  await addModel('registry.example.org/team/private/1', ['private weights']);
  const manifest = await capture('list');
  const blobs = manifest.artifacts.filter((a) => a.path.startsWith('ollama/blobs/')).map((a) => a.path);
  assert.ok(!blobs.includes(`ollama/blobs/sha256-${hex('embedding weights')}`));
  for (const content of ['You are TARS. Humour 75%.', 'A system prompt', 'private weights', 'llama weights'])
    assert.ok(blobs.includes(`ollama/blobs/sha256-${hex(content)}`), content);
  const list = JSON.parse(await readFile(join(snapshot, 'ollama', 'models.json'), 'utf8')) as {
    models: { name: string; digest: string; origin: string }[];
  };
  assert.deepEqual(
    list.models.map((model) => `${model.name} ${model.origin}`),
    [
      'registry.example.org/team/private:1 local',
      'derived:latest local',
      'llama3:8b pulled',
      'nomic-embed-text:latest pulled',
      'tars:latest local',
    ],
  );
  assert.equal(list.models[2]?.digest, `sha256:${hex(await readFile(join(store, 'manifests', llama)))}`);

  await rm(store, { recursive: true });
  const planned = await componentFor('list').planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  assert.ok(planned.plan.steps.some((step) => step.endsWith('ollama pull nomic-embed-text:latest')));
  await (await stage(manifest)).swap(ctx);
  const restored = Object.keys(await tree(join(store, 'manifests')));
  assert.ok(!restored.includes(embed), 'a manifest without its blobs is not restored');
  assert.ok(restored.includes(own));
  const findings = await componentFor('list').verify(manifest, ctx, noArtifacts);
  assert.deepEqual([...new Set(findings.map((f) => f.severity))], ['warning']);
});

test('with list, a copy that no registry knows by its name is named; another tag of the same model is none', async () => {
  await addModel('registry.ollama.ai/library/llama3/8b', ['weights']);
  const library = join(store, 'manifests/registry.ollama.ai/library');
  // As ollama cp does it.
  for (const copy of ['llama3/latest', 'mine/latest']) {
    await mkdir(dirname(join(library, copy)), { recursive: true });
    await writeFile(join(library, copy), await readFile(join(library, 'llama3/8b')));
  }
  await addModel('registry.ollama.ai/library/other/latest', ['other weights']);
  const warned: string[] = [];
  const noisy = { ...ctx, log: { ...ctx.log, warn: (text: string) => void warned.push(text) } };
  const captureWith = async (models: OllamaOptions['models']): Promise<readonly string[]> => {
    warned.length = 0;
    await using prepared = await componentFor(models).prepare(noisy);
    await prepared.mark(noisy.signal);
    await prepared.settle(noisy);
    await prepared.capture(createDirectorySink(join(dir, `of-${models}`), { encrypted: true }), noisy);
    return [...warned];
  };
  const [warning, ...more] = await captureWith('list');
  assert.match(
    warning ?? '',
    /under the names llama3:8b and llama3:latest and mine:latest, and a copy cannot be pulled/,
  );
  assert.deepEqual(more, []);
  assert.deepEqual(await captureWith('all'), []);
});

test('none keeps the list in the facts and nothing else', async () => {
  await fillStore();
  const manifest = await capture('none');
  assert.deepEqual(manifest.artifacts, []);
  assert.equal((manifest.facts['models'] as unknown[]).length, 3);
});

test('unchanged blobs are taken over from the parent snapshot, unless that had them wrong', async () => {
  await fillStore();
  const first = await capture('all');
  const taken: string[] = [];
  const component = componentFor('all');
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  const sink = createDirectorySink(join(dir, 'second'), { encrypted: true });
  await prepared.capture(
    {
      ...sink,
      reuse(path, identity) {
        const artifact = first.artifacts.find((candidate) => candidate.path === path);
        assert.equal(identity.sizeBytes, artifact?.sizeBytes);
        taken.push(path);
        if (artifact === undefined || !path.endsWith(hex('llama weights'))) return Promise.resolve(artifact);
        return Promise.resolve({ ...artifact, sha256: '0'.repeat(64) });
      },
    },
    ctx,
  );
  assert.equal(new Set(taken).size, first.artifacts.filter((a) => a.path.includes('/blobs/')).length);
  const written = sink.artifacts.map((a) => a.path).filter((path) => path.includes('/blobs/'));
  assert.deepEqual(written, [`ollama/blobs/sha256-${hex('llama weights')}`]);
});

test('a directory that is no model store is refused with the right path', async () => {
  await fillStore();
  await assert.rejects(componentFor('all', dir).prepare(ctx), (error) => {
    assert.ok(error instanceof TarsError);
    assert.equal(error.code, 'configuration');
    assert.match(error.hint ?? '', new RegExp(`${store}\\.$`));
    return true;
  });
  await mkdir(join(dir, 'empty'));
  await assert.rejects(componentFor('all', join(dir, 'empty')).prepare(ctx), /neither manifests nor blobs/);
});

test('restored files and folders belong to the owner of the store', { skip: !root }, async () => {
  await fillStore();
  const manifest = await capture('all');
  await rm(join(store, 'manifests'), { recursive: true });
  await rm(join(store, 'blobs', `sha256-${hex('shared licence')}`));
  await chown(store, 1234, 1235);
  await (await stage(manifest)).swap(ctx);
  for (const path of ['manifests', 'manifests/registry.ollama.ai', `manifests/${llama}`]) {
    const { uid, gid, mode } = await stat(join(store, path));
    assert.deepEqual([uid, gid], [1234, 1235], path);
    assert.ok((mode & 0o444) === 0o444, path);
  }
  assert.equal((await stat(join(store, 'blobs', `sha256-${hex('shared licence')}`))).uid, 1234);
});

test('a snapshot that leads out of the store, or lacks an artifact, is refused', async () => {
  await fillStore();
  const manifest = await capture('all');
  const restoreOptions = { restoreConfig: false, restoreId: 'r1' };
  const facts = structuredClone(manifest.facts) as { models: { path: string }[] };
  facts.models[0]!.path = '../../etc/passwd/x';
  await assert.rejects(
    componentFor('all').planRestore({ ...manifest, facts }, restoreOptions, ctx, noArtifacts),
    CorruptionError,
  );
  await rm(store, { recursive: true });
  await assert.rejects(
    componentFor('all').planRestore({ ...manifest, artifacts: [] }, restoreOptions, ctx, noArtifacts),
    RestoreRefusedError,
  );
});

test('a blob that this user may not read costs the models that need it, with its name', async () => {
  await fillStore();
  const file = `sha256-${hex('llama weights')}`;
  await mkdir(snapshot);
  await chmod(snapshot, 0o777);
  await chmod(dir, 0o755);
  await chmod(join(store, 'blobs', file), 0);
  await withoutPrivileges(async () => {
    const { incomplete } = await capture('all');
    assert.equal(incomplete?.count, 2);
    for (const { reason } of incomplete.named)
      assert.match(reason, new RegExp(`${file} cannot be read: EACCES`));
  });
});

test('a large sparse blob streams in bounded memory', async () => {
  const sizeBytes = process.env['TARS_CAMPAIGN'] === 'full' ? 8 * 2 ** 30 : 64 * 2 ** 20;
  await mkdir(join(store, 'blobs'), { recursive: true });
  const sparse = join(store, 'blobs', 'sparse');
  await writeFile(sparse, '');
  await truncate(sparse, sizeBytes);
  const zeros = Buffer.alloc(1 << 20);
  const hash = createHash('sha256');
  for (let done = 0; done < sizeBytes; done += zeros.byteLength) hash.update(zeros);
  const sha256 = hash.digest('hex');
  await rename(sparse, join(store, 'blobs', `sha256-${sha256}`));
  const config = '{}';
  await writeFile(join(store, 'blobs', `sha256-${hex(config)}`), config);
  await mkdir(dirname(join(store, 'manifests', llama)), { recursive: true });
  await writeFile(
    join(store, 'manifests', llama),
    JSON.stringify({
      config: { digest: `sha256:${hex(config)}`, size: 2 },
      layers: [{ digest: `sha256:${sha256}`, size: sizeBytes }],
    }),
  );

  const component = componentFor('all');
  await using prepared = await component.prepare(ctx);
  await prepared.mark(ctx.signal);
  const before = process.memoryUsage.rss();
  let peak = before;
  let taken = 0;
  await prepared.capture(
    createEmptyingSink((chunk) => {
      taken += chunk.byteLength;
      peak = Math.max(peak, process.memoryUsage.rss());
    }),
    ctx,
  );
  assert.ok(taken > sizeBytes);
  const grownBytes = peak - before;
  assert.ok(grownBytes < 200 * 2 ** 20, `resident size grew by ${grownBytes} bytes`);
});
