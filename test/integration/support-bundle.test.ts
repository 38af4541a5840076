import assert from 'node:assert/strict';
import { execa } from 'execa';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { createTextCleaner } from '../../src/components/config/text-cleaner.ts';
import { TarsError } from '../../src/model/errors.ts';
import { packBundle } from '../../src/operations/support-bundle/archive.ts';
import type { CleanFile } from '../../src/operations/support-bundle/clean.ts';
import { makeSupportBundle, type SupportBundle } from '../../src/operations/support-bundle/index.ts';
import { report, type RawFile, type SupportSource } from '../../src/operations/support-bundle/source.ts';
import { containersSource } from '../../src/operations/support-bundle/sources/containers.ts';
import { fileSource, lessonSource, secretSource } from '../../src/operations/support-bundle/sources/files.ts';
import { journalSource, logFileSource } from '../../src/operations/support-bundle/sources/logs.ts';
import { placesSource } from '../../src/operations/support-bundle/sources/places.ts';
import { reportSource, runsSource } from '../../src/operations/support-bundle/sources/reports.ts';
import {
  repositoryFilesSource,
  snapshotsSource,
} from '../../src/operations/support-bundle/sources/repository.ts';
import type { RunLog } from '../../src/ports/run-log.ts';
import type { SnapshotStore } from '../../src/ports/snapshot-store.ts';
import type { ContainerInspector, SupportedContainer } from '../../src/ports/support.ts';
import { joinStreams } from '../../src/runtimes/docker/engine/frames.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { testContext } from '../fixtures/context.ts';
import { secretCorpus } from '../fixtures/secret-corpus.ts';

let root: string;
before(async () => {
  // Short: a long name with a random end looks like a token.
  root = await mkdtemp(join(tmpdir(), 'tars-s-'));
});
after(() => rm(root, { recursive: true, force: true }));

/** What a test may wait for a source that never answers. */
const limitMs = 200;

interface Options {
  readonly known?: readonly string[];
  readonly signal?: AbortSignal;
  readonly limitMs?: number;
}

const bundleOf = (sources: readonly SupportSource[], options: Options = {}): Promise<SupportBundle> =>
  makeSupportBundle(
    {
      sources: [secretSource('the settings', () => Promise.resolve(options.known ?? [])), ...sources],
      ...{ cleaner: createTextCleaner(), folder: 'bundle' },
      ...{ compression: 'gzip', limitMs: options.limitMs ?? 60_000 },
    },
    testContext(options.signal),
  );

const source = (name: string, ...files: readonly RawFile[]): SupportSource => ({
  name,
  collect: () => Promise.resolve({ files }),
});
const raw = (path: string, body: string | Uint8Array, form: RawFile['form']): RawFile => ({
  ...{ path, body, form, from: path },
});

const opened = ({ archive }: SupportBundle): string => gunzipSync(archive).toString('utf8');

/** The text of one file of a bundle, by stock tar. */
async function fileOf({ archive }: SupportBundle, path: string): Promise<string> {
  const { stdout } = await execa('tar', ['xzOf', '-', `bundle/${path}`], { input: archive });
  return stdout;
}

/** Shorter ones occur by chance. */
const searchable = secretCorpus
  .flatMap(({ secrets }) => secrets)
  // The user of the Compose file in base64, which is a name everywhere else.
  .filter((secret) => secret.length >= 8 && secret !== 'dGFycw==');
/** As they stand in the corpus, and as a document or a log encodes them. */
const spellings = (secret: string): string[] => [
  secret,
  JSON.stringify(secret).slice(1, -1),
  encodeURIComponent(secret),
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  Buffer.from(secret).toString('hex'),
];
const leaksIn = (text: string): string[] =>
  searchable.filter((secret) => spellings(secret).some((spelling) => text.includes(spelling)));

const container = (
  name: string,
  log: string | Uint8Array,
  environment: readonly string[] = [],
): SupportedContainer => ({
  ...{ name, service: name, state: { name, status: 'running' }, environment, command: [] },
  log: () => Promise.resolve(typeof log === 'string' ? Buffer.from(log) : log),
});
const inspectorOf = (containers: readonly SupportedContainer[]): ContainerInspector => ({
  version: () => Promise.resolve({}),
  containers: () => Promise.resolve(containers),
  composeFiles: () => Promise.resolve([]),
});

/** Groups of so many. */
const grouped = <T>(all: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));

/** A repository as its port shows it, whose snapshots have these names. */
const storeOf = (names: readonly string[]): SnapshotStore => {
  const snapshots = names.map((name) => ({
    ...{ id: 'ab'.repeat(32), time: new Date(0), utcOffsetMinutes: 0, stack: name, hostname: name },
    ...{ tags: [name, name], paths: ['/secret/path/of/data'], program: 'tars' },
  }));
  const store: Partial<SnapshotStore> = {
    ...{ id: 'cd'.repeat(32), location: '/repo', formatVersion: 2 },
    list: () => Promise.resolve(snapshots),
    holders: () => Promise.resolve([]),
    examinePacks: () => Promise.resolve({ missing: [], misfit: [], damaged: [] }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return store as SnapshotStore;
};

const runsOf = (messages: readonly string[]): RunLog => ({
  begin: () => assert.fail('nothing is recorded'),
  runs: () =>
    messages.map((message) => ({
      ...{
        id: 'ef'.repeat(8),
        verb: 'backup',
        options: [],
        pid: 1,
        startedAt: new Date(0),
        state: 'finished',
      },
      end: { exitCode: 1, outcome: 'failed', error: { code: 'subprocess', message } },
    })),
});

test(`of ${searchable.length} secrets planted in every source none comes out, and ordinary settings do`, async () => {
  const paths: string[] = [];
  for (const { name, bytes } of secretCorpus) {
    const path = join(root, 'planted', name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, bytes);
    paths.push(path);
  }
  const text = secretCorpus.map((file) => file.text.replaceAll('\r\n', '\n')).join('\n');
  const parts = grouped(text.split('\n'), 190).map((lines) => lines.join('\n'));
  const third = (which: number): string[] => parts.filter((_, i) => i % 3 === which);
  const logged = parts.map((part, i) => container(`api-${i}`, part.replaceAll(/^/gm, 'api  | '), third(2)));
  // Of plain words it would be a name.
  const inName = searchable.find((secret) => /^\w*\d\w*$/.test(secret)) ?? '';
  const bundle = await bundleOf([
    ...paths.map((path) => fileSource(path, 'configuration')),
    containersSource(inspectorOf(logged), 'planted'),
    ...third(0).map((part, i) =>
      journalSource([`unit-${i}`], `logs/journal-${i}.log`, () =>
        Promise.resolve({ bytes: Buffer.from(part) }),
      ),
    ),
    runsSource(() => runsOf(third(0))),
    reportSource('doctor', () =>
      Promise.resolve(third(1).map((found) => ({ check: 'store', state: 'error', found }))),
    ),
    reportSource('status', () => Promise.resolve({ reasons: third(2) })),
    snapshotsSource(
      () =>
        Promise.resolve({
          store: storeOf(searchable.filter((_, i) => i % 3 === 0).map((secret) => `password=${secret}`)),
          password: 'of-the-repository-9',
        }),
      60_000,
    ),
    { name: 'angry', collect: () => Promise.reject(new TarsError('subprocess', third(1)[0] ?? '')) },
    source('paths', raw(`logs/${inName}.log`, 'x', 'log')),
  ]);
  const shown = opened(bundle);
  assert.deepEqual(leaksIn(shown), []);
  assert.deepEqual(leaksIn(JSON.stringify(bundle.manifest)), []);
  for (const ordinary of ['MAX_TOKENS=4096', 'POSTGRES_PORT=5432', 'api  | TZ=Europe/Berlin'])
    assert.ok(shown.includes(ordinary), ordinary);
  assert.ok(!shown.includes('/secret/path/of/data'));
});

test('what settings and files teach goes from every log, encoded and short as well', async () => {
  const known = ['Q7!x', 'only-the-settings-know-1'];
  await writeFile(join(root, 'app.secret'), 'DB_PASSWORD=taught-by-a-file-22\n');
  const log = [
    'plain only-the-settings-know-1 and taught-by-a-file-22',
    `encoded ${Buffer.from('only-the-settings-know-1').toString('base64')} ${encodeURIComponent('Q7!x')}`,
    'short Q7!x',
    'of a container: made-in-Env-5',
  ].join('\n');
  const bundle = await bundleOf(
    [
      lessonSource(join(root, 'app.secret')),
      containersSource(inspectorOf([container('api', log, ['API_TOKEN=made-in-Env-5'])]), 'p'),
    ],
    { known },
  );
  const shown = opened(bundle);
  assert.doesNotMatch(shown, /only-the-settings|taught-by-a-file|Q7!x|made-in-Env|b25seS10aGUtc2V0dGluZ3/);
  assert.match(shown, /plain \[redacted\] and \[redacted\]/);
  assert.ok(!bundle.manifest.files.some(({ path }) => path.includes('app.secret')));
});

test('the password that opened the repository goes as well, though only a command knew it', async () => {
  const opens = { store: storeOf([]), password: 'of-the-Repository-9' };
  const bundle = await bundleOf(
    [
      snapshotsSource(() => Promise.resolve(opens), 60_000),
      source('log', raw('x.log', 'restic said of-the-Repository-9 is wrong', 'log')),
      secretSource('hanging', () => new Promise(() => undefined)),
    ],
    { limitMs },
  );
  assert.equal(await fileOf(bundle, 'x.log'), 'restic said [redacted] is wrong');
  assert.match(JSON.stringify(bundle.manifest.omitted), /secret of hanging/);
});

test('a source that is missing, throws or hangs costs nothing of the others', async () => {
  const bundle = await bundleOf(
    [
      source('good', report('good.json', 'here', { fine: true })),
      fileSource(join(root, 'nowhere.yaml'), 'configuration'),
      fileSource(root, 'configuration'),
      {
        name: 'thrower',
        collect: () => {
          throw new Error('thrown at once');
        },
      },
      { name: 'hanger', collect: () => new Promise(() => undefined) },
      reportSource('doctor', () => Promise.reject(new TarsError('wrong-password', 'No key opens it'))),
      snapshotsSource(
        () => Promise.reject(new TarsError('wrong-password', 'No key opens the repository')),
        60_000,
      ),
    ],
    { limitMs },
  );
  assert.deepEqual(JSON.parse(await fileOf(bundle, 'good.json')), { fine: true });
  const omitted = new Map(bundle.manifest.omitted.map(({ what, why }) => [what, why]));
  assert.match(omitted.get(join(root, 'nowhere.yaml')) ?? '', /no such file/i);
  assert.match(omitted.get(root) ?? '', /not a regular file/);
  assert.match(omitted.get('thrower') ?? '', /thrown at once/);
  assert.match(omitted.get('hanger') ?? '', /did not answer within 0\.2 s/);
  assert.match(omitted.get('doctor') ?? '', /No key opens it/);
  assert.match(omitted.get('snapshots') ?? '', /No key opens the repository/);
  assert.deepEqual(JSON.parse(await fileOf(bundle, 'manifest.json')), bundle.manifest);
  assert.match(await fileOf(bundle, 'README.txt'), /Left out:[\s\S]*hanger: /);
});

test('the structure of a repository needs no password and tells no name of a key', async () => {
  const repository = join(root, 'repository');
  const id = 'a1'.repeat(32);
  for (const folder of ['keys', 'index', 'snapshots', 'locks', 'data/a1'])
    await mkdir(join(repository, folder), { recursive: true });
  for (const file of ['config', `keys/${id}`, `snapshots/${id}`, `data/a1/${id}`])
    await writeFile(join(repository, file), 'sealed bytes');
  const bundle = await bundleOf([
    repositoryFilesSource(createLocalStorage(repository)),
    placesSource({ repository, gone: join(root, 'gone') }),
  ]);
  const files = JSON.parse(await fileOf(bundle, 'repository/files.json')) as Record<
    string,
    { count: number; bytes: number }
  >;
  assert.deepEqual([files['packs']?.count, files['packs']?.bytes, files['keysFiles']?.count], [1, 12, 1]);
  assert.ok(!opened(bundle).includes('a1a1'));
  assert.ok(!opened(bundle).includes('sealed bytes'));
  const [place, gone] = JSON.parse(await fileOf(bundle, 'places.json')) as {
    freeBytes: number;
    exists: boolean;
    mount: { point: string };
  }[];
  assert.ok((place?.freeBytes ?? 0) > 0 && place?.mount.point.startsWith('/'));
  assert.equal(gone?.exists, false);
});

test('logs that are huge, binary or in UTF-16 are shown as far as they are text, from a whole line on', async () => {
  const secret = 'REDIS_PASSWORD=Wide-Secret-12';
  const ordinary = 'LOG_LEVEL=info of service\n';
  const huge = `${'x'.repeat(2 ** 20)} TOKEN=${'tail-Of-Secret9'.repeat(20_000)}\n${ordinary}`;
  const logs: Record<string, Uint8Array> = {
    huge: Buffer.from(huge),
    line: Buffer.from('DB_PASSWORD=' + 'tail-Of-Secret9'.repeat(40_000)),
    utf16: Buffer.from(`\ufeff${secret}\n${ordinary}`, 'utf16le'),
    binary: Buffer.concat([Buffer.from([0, 1, 2, 255, 254]), Buffer.from(`\n${secret}\u0000\n${ordinary}`)]),
    coloured: Buffer.from(
      `REDIS_\u001b[31mPASSWORD\u001b[0m=\u001b[1mWide-\u200bSecret-12\u001b[0m\n${ordinary}`,
    ),
    progress: Buffer.from(`10%\r20%\r${secret}\r\n${ordinary}`),
    many: Buffer.from(`old line\n${ordinary.repeat(300)}`),
    mixed: Buffer.concat([
      Buffer.from(ordinary),
      Buffer.from(secret, 'utf16le'),
      Buffer.from(`\n${ordinary}`),
    ]),
  };
  const paths = Object.entries(logs).map(([name, bytes]) => ({ path: join(root, name), bytes }));
  for (const { path, bytes } of paths) await writeFile(path, bytes);
  const bundle = await bundleOf(paths.map(({ path }) => logFileSource(path, 'logs')));
  const shown = opened(bundle);
  assert.doesNotMatch(shown, /Wide|Secret-12|tail-Of|Secret9/);
  for (const name of ['huge', 'utf16', 'binary', 'coloured', 'progress', 'mixed'])
    assert.match(await fileOf(bundle, `logs/${name}.log`), /LOG_LEVEL=info of service/, name);
  assert.match(await fileOf(bundle, 'logs/line.log'), /^\[One line that is too long/);
  assert.equal((await fileOf(bundle, 'logs/many.log')).split('\n').length, 200);
});

test('a secret that two chunks of a log or two streams divide is one again', async () => {
  const frame = (stream: number, text: string): Buffer => {
    const head = Buffer.alloc(8);
    head.writeUInt8(stream, 0);
    head.writeUInt32BE(Buffer.byteLength(text), 4);
    return Buffer.concat([head, Buffer.from(text)]);
  };
  const frames = Buffer.concat([
    ...[
      frame(1, 'first\nDB_PASSW'),
      frame(2, 'a warning\nof two'),
      frame(1, 'ORD=divided-'),
      frame(2, ' parts\n'),
    ],
    ...[frame(1, 'Secret-3\nlast'), Buffer.from([1, 0, 0])],
  ]);
  const joined = joinStreams(frames);
  assert.equal(joined.toString(), 'first\na warning\nof two parts\nDB_PASSWORD=divided-Secret-3\nlast\n');
  const bundle = await bundleOf([containersSource(inspectorOf([container('db', joined)]), 'p')]);
  assert.equal(
    await fileOf(bundle, 'logs/db.log'),
    'first\na warning\nof two parts\nDB_PASSWORD=[redacted]\nlast',
  );
});

test('what is too large for the bundle is left out whole, and said', async () => {
  const line = 'an ordinary line of text\n';
  const bundle = await bundleOf([
    source('large', raw('large.txt', line.repeat(50_000), 'file')),
    source('image', raw('image.env', Buffer.from([0x89, 0x50, 0, 0, 1]), 'file')),
  ]);
  assert.deepEqual(bundle.manifest.files, []);
  assert.deepEqual(
    bundle.manifest.omitted.map(({ what }) => what),
    ['large.txt', 'image.env'],
  );
});

test('two files of one name are both there, and no name leads out of the folder', async () => {
  const bundle = await bundleOf([
    source('a', raw('logs/x.log', 'first', 'log'), raw('logs/x.log', 'second', 'log')),
    source('b', raw('../../etc/passwd', 'third', 'log')),
  ]);
  const { stdout } = await execa('tar', ['tzf', '-'], { input: bundle.archive });
  assert.deepEqual(
    stdout.split('\n'),
    ['manifest.json', 'README.txt', 'logs/x.log', 'logs/x-2.log', '_/_/etc/passwd'].map(
      (path) => `bundle/${path}`,
    ),
  );
  assert.equal(await fileOf(bundle, 'logs/x-2.log'), 'second');
});

test('only what was redacted can be packed', async () => {
  const forged = { path: 'x', from: 'x', text: 'DB_PASSWORD=forged-1' } as unknown as CleanFile;
  await assert.rejects(
    packBundle('bundle', [{ path: 'x', file: forged }], new Date(), 'gzip'),
    /not been redacted/,
  );
});

test('an interruption ends it, while a source hangs and while texts are redacted', async () => {
  const controller = new AbortController();
  const hanging: SupportSource = {
    name: 'hanger',
    collect: () => {
      controller.abort();
      return new Promise(() => undefined);
    },
  };
  await assert.rejects(bundleOf([hanging], { signal: controller.signal }), { code: 'interrupted' });
  const later = new AbortController();
  const slow: SupportSource = {
    name: 'texts',
    collect: () => {
      setImmediate(() => later.abort());
      return Promise.resolve({
        files: Array.from({ length: 50 }, (_, i) => raw(`${i}.log`, 'a line', 'log')),
      });
    },
  };
  await assert.rejects(bundleOf([slow], { signal: later.signal }), { code: 'interrupted' });
});
