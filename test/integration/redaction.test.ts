import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { parseAllDocuments, stringify } from 'yaml';
import { placeholder, redactFiles, syntaxOf } from '../../src/components/config/redact/index.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { tars, type CliRun } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { secretCorpus, type PlantedFile } from '../fixtures/secret-corpus.ts';

/** Shorter ones occur by chance in what is long. */
const searchableLengthMin = 8;
const secrets = secretCorpus.flatMap((file) => file.secrets);

/** As a secret may leak: as it is, and in the encodings that documents, logs and programs put text into. */
function encodings(secret: string): Buffer[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const url = encodeURIComponent(secret);
  const base64 = Buffer.from(secret).toString('base64').replace(/=+$/, '');
  const escaped = [json, JSON.stringify(json).slice(1, -1), url, base64, Buffer.from(secret).toString('hex')];
  const texts = new Set([secret, ...escaped]);
  return [...[...texts].map((text) => Buffer.from(text)), Buffer.from(secret, 'utf16le')];
}

/** What of `wanted` is found in what was said or left behind. */
function leaksIn(places: Readonly<Record<string, Buffer | string>>, wanted: readonly string[]): string[] {
  const searched = Object.entries(places).map(([place, content]) => [place, Buffer.from(content)] as const);
  const everything = Buffer.concat(searched.map(([, content]) => content));
  return wanted
    .filter((secret) => secret.length >= searchableLengthMin)
    .flatMap((secret) => {
      // What is nowhere in all of it is in none of the places.
      const found = encodings(secret).filter((bytes) => everything.includes(bytes));
      if (found.length === 0) return [];
      return searched.flatMap(([place, content]) =>
        found.some((bytes) => content.includes(bytes)) ? [`${place}: ${secret}`] : [],
      );
    });
}

/** Without what a changed scalar may gain or lose: quotes, and the line ends of a block. */
const unquoted = (text: string): string[] =>
  text.split('\n').map((line) => line.replaceAll(/\\?["']/g, '').trimEnd());

/** The values of YAML or JSON, a block's last line end apart. Unquoted, the placeholder would be a list. */
function valuesOf(text: string): unknown {
  const documents = parseAllDocuments(text.replaceAll('\t', ' ').replaceAll(placeholder, 'REDACTED'), {
    merge: true,
  });
  assert.ok(Array.isArray(documents));
  const errors = documents.flatMap((document) => document.errors.map(({ message }) => message));
  assert.deepEqual(errors, []);
  return documents.map((document) => trimmed(document.toJS()));
}

function trimmed(value: unknown): unknown {
  if (typeof value === 'string') return value.trim();
  if (Array.isArray(value)) return value.map(trimmed);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, trimmed(inner)]));
}

const commentsOf = (text: string): string[] => text.match(/(?<=^|\s)#\s.*$/gm) ?? [];

function requireOnlySecretsChanged({ name, expected }: PlantedFile, shown: string): void {
  if (['yaml', 'json'].includes(syntaxOf(name)) && !/broken|jsonc/.test(name)) {
    assert.deepEqual(valuesOf(shown), valuesOf(expected), name);
    assert.deepEqual(commentsOf(shown.replaceAll('"', '')), commentsOf(expected.replaceAll('"', '')), name);
  } else assert.deepEqual(unquoted(shown), unquoted(expected), name);
}

test(`of ${secrets.length} planted secrets none is shown, and nothing else is changed`, () => {
  const shown = redactFiles(secretCorpus, []);
  const places = Object.fromEntries(secretCorpus.map(({ name }, i) => [name, shown[i] ?? '']));
  assert.deepEqual(leaksIn(places, secrets), []);
  for (const [i, file] of secretCorpus.entries()) {
    const text = shown[i] ?? '';
    for (const secret of file.secrets) assert.ok(!text.includes(secret), `${file.name}: ${secret}`);
    requireOnlySecretsChanged(file, text);
  }
  assert.ok(secrets.length >= 700);
  assert.ok(secretCorpus.reduce((sum, { ordinarySettings }) => sum + ordinarySettings, 0) >= 600);
});

test('a file alone gives away no more than among the others', () => {
  for (const file of secretCorpus.filter(({ name }) => name !== 'notes.md')) {
    const [shown = ''] = redactFiles([file], []);
    assert.deepEqual(leaksIn({ [file.name]: shown }, file.secrets), []);
    requireOnlySecretsChanged(file, shown);
  }
});

async function filesBelow(root: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(paths.map(async (path) => [path.slice(root.length), await readFile(path)] as const)),
  );
}

test('no run of tars prints or leaves a secret anywhere but under encryption', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-redaction-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const live = join(root, 'live');
  for (const { name, bytes } of secretCorpus) {
    await mkdir(dirname(join(live, name)), { recursive: true });
    await writeFile(join(live, name), bytes);
  }
  // What only the settings know has to stay hidden too, in files and in what is said about stores that do not answer.
  const known = [
    'only-the-repository-knows-1',
    'only-postgres-knows-1',
    'only-redis-knows-1',
    'only-chroma-knows-1',
  ];
  const [repositoryPassword = '', postgres = '', redis = '', chroma = ''] = known;
  await writeFile(join(live, 'remarks.txt'), `So it is: ${known.join(', ')}\n`);
  await writeFile(join(root, 'key'), `${repositoryPassword}\n`, { mode: 0o600 });
  const settingsPath = join(root, 'tars.yaml');
  const config = {
    files: [...secretCorpus.map(({ name }) => name), 'remarks.txt'].map((name) => join(live, name)),
  };
  const settings = {
    ...{ version: 1, stack: 'planted', repository: { path: 'repository', password_file: 'key' } },
    ...{ scratch_dir: 'scratch', state_dir: 'state' },
    components: {
      config,
      postgres: { port: 1, password: postgres },
      redis: { port: 1, password: redis },
      chroma: { url: 'http://127.0.0.1:1', headers: { Authorization: `Bearer ${chroma}` } },
    },
  };
  await mkdir(join(root, 'scratch'));
  await writeFile(settingsPath, stringify(settings), { mode: 0o600 });
  const said: Record<string, string> = {};
  const run = async (...args: readonly string[]): Promise<CliRun> => {
    const ran = await tars(['--config', settingsPath, '-v', ...args], { cwd: root });
    said[args.join(' ')] = ran.stdout + ran.stderr;
    return ran;
  };
  const ctx = testContext();
  await createWithCheapKey(createLocalStorage(join(root, 'repository')), repositoryPassword, ctx);
  const requireExit = async (wanted: number, ...args: readonly string[]): Promise<void> => {
    const { exitCode, stderr } = await run(...args);
    assert.equal(exitCode, wanted, `${args.join(' ')}: ${stderr}`);
  };
  await requireExit(2, 'backup', '--json');
  await run('backup', '--dry-run');
  await requireExit(2, 'backup', '--output-dir', join(root, 'out'));
  await requireExit(0, 'show', '--json');
  await requireExit(0, 'verify', '--json');
  await requireExit(0, 'restore', '--component', 'config', '--dry-run');
  const wanted = [...secrets, ...known];
  assert.deepEqual(leaksIn(said, wanted), []);
  const [archive = ''] = (await readdir(join(root, 'out'))).filter((name) => name.endsWith('.tar.gz'));
  const opened = gunzipSync(await readFile(join(root, 'out', archive)));
  assert.ok(opened.includes('MAX_TOKENS=4096'));
  assert.deepEqual(leaksIn({ archive: opened }, wanted), []);
  const left = Object.fromEntries(
    Object.entries(await filesBelow(root)).filter(([path]) => !/^\/(?:live|key|tars\.yaml)/.test(path)),
  );
  assert.ok(Object.keys(left).length > 5);
  assert.deepEqual(leaksIn(left, wanted), []);

  const rescue = join(root, 'rescue');
  await execa(
    'restic',
    ['-r', join(root, 'repository'), '--no-cache', 'restore', 'latest', '--target', rescue],
    {
      env: { RESTIC_PASSWORD: repositoryPassword },
    },
  );
  const stored = await filesBelow(join(rescue, 'tars', 'planted'));
  const shown = Object.fromEntries(
    Object.entries(stored).filter(([path]) => !path.startsWith('/config/true/')),
  );
  assert.ok(Object.keys(shown).length > secretCorpus.length);
  assert.deepEqual(leaksIn(shown, wanted), []);
  for (const { name, bytes } of secretCorpus)
    assert.deepEqual(stored[`/config/true${join(live, name)}`], bytes, name);
});
