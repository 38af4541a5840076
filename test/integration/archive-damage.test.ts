import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { syncDirectory } from '../../src/disk/sync.ts';
import { openArchive, verifyArchive } from '../../src/archive/read.ts';
import { encodeTarHeader } from '../../src/archive/tar-format.ts';
import { createArchiveDestination, type ArchiveCompression } from '../../src/archive/write.ts';
import { CorruptionError } from '../../src/model/errors.ts';
import { hasErrors } from '../../src/model/finding.ts';
import {
  attributes,
  bytesOf,
  collect,
  label,
  manifestOf,
  never,
  seededBytes,
  writeOptions,
} from '../fixtures/archives.ts';
import { testContext } from '../fixtures/context.ts';

const rounds = process.env['TARS_CAMPAIGN'] === 'full' ? 1500 : 120;

let root: string;
let scratchDir: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-damage-'));
  scratchDir = join(root, 'scratch');
});
after(() => rm(root, { recursive: true, force: true }));

/** A small archive with every kind of header, and a copy of it that tests may damage. */
async function sample(compression: ArchiveCompression): Promise<{ file: string; whole: Buffer }> {
  const outputDir = await mkdtemp(join(root, 'out-'));
  const destination = createArchiveDestination({ outputDir, compression, scratchDir });
  await using writer = await destination.begin(label, testContext());
  const odd = attributes({ mtimeNs: 1_700_000_000_123_456_789n, uid: 4_000_000 });
  await writer.directory('store', odd);
  await writer.symlink('store/link', `target/${'long/'.repeat(30)}`, attributes());
  const artifacts = [
    await writer.write('store/text', bytesOf(Buffer.from('hello '.repeat(300))), writeOptions()),
    await writer.write('store/noise', bytesOf(seededBytes(7, 3001)), { ...writeOptions(), attributes: odd }),
    await writer.write('store/empty', bytesOf(Buffer.alloc(0)), writeOptions(0)),
  ];
  await writer.publish(manifestOf(artifacts), testContext());
  const name = (await readdir(outputDir)).find((each) => /\.tar(\.gz|\.zst)?$/.test(each)) ?? '';
  return { file: join(outputDir, name), whole: await readFile(join(outputDir, name)) };
}

/** Everything a reader can learn from an archive. */
async function content(file: string): Promise<unknown> {
  await using source = await openArchive(file, { scratchDir }, testContext());
  const seen: unknown[] = [await source.manifest(never), source.summary];
  for await (const entry of source.entries('', never)) {
    seen.push(
      entry,
      entry.type === 'file' ? (await collect(source.open(entry.path, never))).toString('hex') : '',
    );
  }
  return seen;
}

const refused = async (file: string): Promise<boolean> => {
  try {
    await content(file);
    return false;
  } catch (error) {
    assert.ok(error instanceof CorruptionError, String(error));
    return true;
  }
};

/** Positions spread over the whole file by a seed. */
function* positions(seed: number, limit: number, count: number): Iterable<number> {
  const random = seededBytes(seed, count * 4);
  for (let i = 0; i < count; i++) yield random.readUInt32LE(i * 4) % limit;
}

for (const compression of ['gzip', 'zstd', 'none'] as const) {
  test(`${compression}: with its .sha256 every flipped bit and every truncation is refused`, async () => {
    const { file, whole } = await sample(compression);
    const seed = 11;
    for (const bit of positions(seed, whole.length * 8, 20)) {
      await writeFile(file, flip(whole, bit));
      assert.ok(await refused(file), `seed ${seed}, bit ${bit}`);
      const findings = await verifyArchive(file, { scratchDir }, testContext());
      assert.ok(findings.some(({ code }) => code === 'archive-checksum-differs'));
    }
    await writeFile(file, whole.subarray(0, -1));
    assert.ok(await refused(file));
    await writeFile(file, whole);
    await writeFile(`${file}.sha256`, 'no checksum at all\n');
    assert.ok(await refused(file));
  });

  test(`${compression}: without the .sha256 a flipped bit is refused, or changed nothing that is read`, async () => {
    const { file, whole } = await sample(compression);
    await unlink(`${file}.sha256`);
    const expected = await content(file);
    let harmless = 0;
    const seed = 12;
    for (const bit of positions(seed, whole.length * 8, rounds)) {
      await writeFile(file, flip(whole, bit));
      const findings = await verifyArchive(file, { scratchDir }, testContext());
      if (await refused(file)) {
        assert.ok(hasErrors(findings), `seed ${seed}, bit ${bit}: check accepted what open refuses`);
        continue;
      }
      assert.ok(!hasErrors(findings), `seed ${seed}, bit ${bit}: check refused what open accepts`);
      assert.deepEqual(await content(file), expected, `seed ${seed}, bit ${bit}`);
      harmless++;
    }
    // Only the time, level and system bytes of gzip member headers and zstd's window size carry nothing.
    assert.ok(harmless <= (compression === 'none' ? 0 : rounds * 0.06), `${harmless} of ${rounds} unnoticed`);
  });

  test(`${compression}: every truncation is refused without the .sha256, and so are foreign bytes at the end`, async () => {
    const { file, whole } = await sample(compression);
    await unlink(`${file}.sha256`);
    const seed = 13;
    for (const length of [0, 1, whole.length - 1, ...positions(seed, whole.length, rounds / 2)]) {
      await writeFile(file, whole.subarray(0, length));
      assert.ok(await refused(file), `seed ${seed}, ${length} of ${whole.length} bytes`);
    }
    await writeFile(file, Buffer.concat([whole, Buffer.from('more')]));
    assert.ok(await refused(file));
  });
}

function flip(whole: Buffer, bit: number): Buffer {
  const damaged = Buffer.from(whole);
  damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
  return damaged;
}

const base = 'tars-backup-20260101_000000';

/** An entry as an attacker would write it: sound headers, and any type flag. */
function forged(
  name: string,
  options: { readonly flag?: string; readonly linkTarget?: string } = {},
): Buffer {
  const { flag = '0', linkTarget = '' } = options;
  const header = Buffer.from(
    encodeTarHeader({ name, type: 'file', sizeBytes: 0, attributes: attributes(), linkTarget }),
  );
  const block = header.subarray(header.length - 512);
  block.write(flag, 156, 'latin1');
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

async function forgedArchive(entries: readonly Buffer[]): Promise<string> {
  const file = join(root, 'forged.tar.gz');
  await writeFile(file, gzipSync(Buffer.concat([...entries, Buffer.alloc(1024)])));
  return file;
}

test('entries that would leave their place, links, devices and duplicates are refused by name', async () => {
  const place = /forbidden place/;
  const cases: readonly (readonly [RegExp, ...Buffer[]])[] = [
    [place, forged(`${base}/../../victim`)],
    [place, forged(`${base}/..`)],
    [place, forged(join(root, 'victim'))],
    [place, forged(`/${base}/victim`)],
    [place, forged('elsewhere/file')],
    [place, forged(`${base}/a/./b`)],
    [place, forged(`${base}//a`)],
    [place, forged(`${base}/${'long/'.repeat(60)}../../x`)],
    [place, forged(`${base}/a`, { flag: '1', linkTarget: '/etc/passwd' })],
    [place, forged(`${base}/a`, { flag: '1', linkTarget: `${base}/../etc/passwd` })],
    [
      /no earlier file of the archive/,
      forged(`${base}/a`, { flag: '1', linkTarget: `${base}/b` }),
      forged(`${base}/b`),
    ],
    [
      /no earlier file of the archive/,
      forged(`${base}/b`, { flag: '2', linkTarget: '/etc/passwd' }),
      forged(`${base}/a`, { flag: '1', linkTarget: `${base}/b` }),
    ],
    [
      /no earlier file of the archive/,
      forged(`${base}/b`),
      forged(`${base}/a`, { flag: '1', linkTarget: 'tars-backup-20260101_000001/b' }),
    ],
    [/impossible major/, forged(`${base}/a`, { flag: '3' })],
    [/a\/b below a/, forged(`${base}/a`, { flag: '6' }), forged(`${base}/a/b`)],
    [/unknown type "g"/, forged(`${base}/a`, { flag: 'g' })],
    [/holds a twice/, forged(`${base}/a`), forged(`${base}/a`)],
    [/holds a twice/, forged(`${base}/a/`, { flag: '5' }), forged(`${base}/a`)],
    [/a\/b below a/, forged(`${base}/a`, { flag: '2', linkTarget: '/tmp' }), forged(`${base}/a/b`)],
    [/a is not a directory/, forged(`${base}/a/b`), forged(`${base}/a`, { flag: '2', linkTarget: '/tmp' })],
    [/a is not a directory/, forged(`${base}/a/b/c`), forged(`${base}/a`)],
    [/two roots/, forged(`${base}/a`), forged('tars-backup-20260101_000001/b')],
    [/no manifest/, forged(`${base}/a`)],
  ];
  for (const [message, ...entries] of cases) {
    const file = await forgedArchive(entries);
    await assert.rejects(openArchive(file, { scratchDir }, testContext()), { code: 'corruption', message });
    const findings = await verifyArchive(file, { scratchDir }, testContext());
    assert.match(findings.find(({ code }) => code === 'archive-damaged')?.message ?? '', message);
  }
  assert.deepEqual(await readdir(scratchDir), []);
});

test('a small archive whose names would fill the memory is refused', async () => {
  const linkTarget = 'x'.repeat(60_000);
  const entries = Array.from({ length: 2500 }, (_, i) =>
    Buffer.from(
      encodeTarHeader({
        name: `${base}/${i}`,
        type: 'symlink',
        sizeBytes: 0,
        attributes: attributes(),
        linkTarget,
      }),
    ),
  );
  const file = await forgedArchive(entries);
  const expected = { code: 'corruption', message: /names and attributes of its entries/ };
  await assert.rejects(openArchive(file, { scratchDir }, testContext()), expected);
});

test('missing, changed and unknown artifacts are each named', async () => {
  const { file } = await craft(
    { 'store/a': 'aaa', 'store/b': 'bbb' },
    { 'store/a': 'xyz', 'store/c': 'ccc' },
  );
  const findings = await verifyArchive(file, { scratchDir }, testContext());
  assert.deepEqual(
    findings.map(({ code, subject }) => `${code} ${subject}`).sort(),
    [
      'archive-checksum-missing',
      'artifact-damaged store/a',
      'artifact-missing store/c',
      'artifact-unknown store/b',
    ].map((line) => (line.includes(' ') ? line : `${line} ${file}`)),
  );
  await assert.rejects(openArchive(file, { scratchDir }, testContext()), CorruptionError);
});

/** An archive that holds `held` while its manifest claims `claimed`: the manifest of another, spliced in. */
async function craft(
  held: Record<string, string>,
  claimed: Record<string, string>,
): Promise<{ file: string }> {
  const frozen = { ...testContext(), clock: { ...testContext().clock, now: () => new Date(0) } };
  const tars: Buffer[] = [];
  for (const files of [held, claimed]) {
    const outputDir = await mkdtemp(join(root, 'out-'));
    const destination = createArchiveDestination({ outputDir, compression: 'none', scratchDir });
    await using writer = await destination.begin(label, frozen);
    const artifacts = [];
    for (const [path, text] of Object.entries(files)) {
      artifacts.push(await writer.write(path, bytesOf(Buffer.from(text)), writeOptions()));
    }
    await writer.publish(manifestOf(artifacts), frozen);
    tars.push(await readFile(join(outputDir, 'tars-backup-19700101_000000.tar')));
  }
  const [entries, manifest] = tars.map((tar) => ({ tar, at: tar.indexOf('PaxHeaders/entry') }));
  assert.ok(entries !== undefined && manifest !== undefined);
  const file = join(root, 'crafted.tar');
  await writeFile(
    file,
    Buffer.concat([entries.tar.subarray(0, entries.at), manifest.tar.subarray(manifest.at)]),
  );
  return { file };
}

test('what a failed component left in the archive is neither an error nor served', async () => {
  const outputDir = await mkdtemp(join(root, 'out-'));
  const writer = await createArchiveDestination({ outputDir, compression: 'gzip', scratchDir }).begin(
    label,
    testContext(),
  );
  await writer.write('broken/half', bytesOf(Buffer.from('half')), writeOptions());
  const good = await writer.write('store/a', bytesOf(Buffer.from('abc')), writeOptions());
  const manifest = manifestOf([good]);
  const failed = { name: 'broken', kind: 'store', outcome: 'failed' as const, facts: {}, artifacts: [] };
  await writer.publish(
    { ...manifest, outcome: 'partial', components: [...manifest.components, failed] },
    testContext(),
  );
  await writer[Symbol.asyncDispose]();
  const file = join(outputDir, (await readdir(outputDir))[0] ?? '');
  assert.deepEqual(await verifyArchive(file, { scratchDir }, testContext()), []);
  await using source = await openArchive(file, { scratchDir }, testContext());
  assert.deepEqual(source.summary.tags, ['partial']);
  const paths = [];
  for await (const { path } of source.entries('', never)) paths.push(path);
  assert.deepEqual(paths, ['manifest.json', 'store', 'store/a']);
});

test('the checksum is compared before anything else, and its absence is a warning', async () => {
  const { file, whole } = await sample('gzip');
  const warnings: string[] = [];
  const ctx = {
    ...testContext(),
    log: { ...testContext().log, warn: (message: string) => void warnings.push(message) },
  };
  await unlink(`${file}.sha256`);
  await (await openArchive(file, { scratchDir }, ctx))[Symbol.asyncDispose]();
  assert.match(warnings.join(), /sha256 is missing/);
  const other = createHash('sha256').update('another').digest('hex');
  await writeFile(`${file}.sha256`, `${other}  x.tar.gz\n`);
  const blocked = join(root, 'blocked');
  await writeFile(blocked, 'a file, so that nothing can be extracted below it');
  await assert.rejects(
    openArchive(file, { scratchDir: join(blocked, 'x') }, ctx),
    /does not match the checksum/,
  );
  await assert.rejects(openArchive(file, { scratchDir }, ctx), /is for x\.tar\.gz/);
  // One that was renamed with its checksum is still what it was.
  const own = createHash('sha256').update(whole).digest('hex');
  await writeFile(`${file}.sha256`, `${own}  x.tar.gz\n`);
  await (await openArchive(file, { scratchDir }, ctx))[Symbol.asyncDispose]();
  assert.deepEqual(await readFile(file), whole);
});

test('a file that is not there, and one that is no archive, are told apart', async () => {
  await assert.rejects(openArchive(join(root, 'none'), { scratchDir }, testContext()), {
    code: 'storage-not-found',
  });
  const file = join(root, 'text');
  await writeFile(file, 'just text');
  await assert.rejects(openArchive(file, { scratchDir }, testContext()), { code: 'corruption' });
  await assert.rejects(openArchive(root, { scratchDir }, testContext()), { code: 'corruption' });
});

test('file systems that cannot sync a directory may hold archives all the same', async () => {
  // The kernel answers EINVAL there, as it does on some network file systems.
  await syncDirectory('/proc');
  await assert.rejects(syncDirectory(join(root, 'none')), { code: 'ENOENT' });
});
