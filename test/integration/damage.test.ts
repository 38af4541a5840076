import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { CorruptionError, TarsError } from '../../src/model/errors.ts';
import type { Finding } from '../../src/model/finding.ts';
import { checkRepository } from '../../src/repository/check/check.ts';
import { openRepository, type OpenedRepository } from '../../src/repository/open.ts';
import { openSnapshotStore } from '../../src/repository/repository.ts';
import { cheapenKey, saveCheapKey } from '../fixtures/cheap-key.ts';
import { campaignSeed, counted, seededRandom } from '../fixtures/campaign.ts';
import { MemoryStorage } from '../fixtures/storage.ts';
import {
  createCheapRepository,
  password,
  readArtifact,
  sampleArtifacts,
  simulatedContext,
  writeSnapshot,
} from '../simulation/stack-snapshots.ts';

const ctx = simulatedContext();
const seed = campaignSeed;
const versions = Array.from({ length: counted(2, 8) }, (_, i) => i + 1);
/** Beside the first byte, the last and the middle one. */
const randomPositions = counted(2, 40);

interface Damage {
  readonly what: string;
  /** Undefined for a file that is gone. */
  readonly bytes: Uint8Array | undefined;
}

function* flips(bytes: Uint8Array, random: () => number): Generator<Damage> {
  const last = bytes.length - 1;
  const anywhere = Array.from({ length: randomPositions }, () => Math.floor(random() * bytes.length));
  for (const position of new Set([0, last >> 1, last, ...anywhere])) {
    const bit = Math.floor(random() * 8);
    const changed = Uint8Array.from(bytes);
    changed[position] = (changed[position] ?? 0) ^ (1 << bit);
    yield { what: `bit ${bit} of byte ${position} of ${bytes.length} flipped`, bytes: changed };
  }
}

function* truncations(bytes: Uint8Array): Generator<Damage> {
  for (const sizeBytes of [0, bytes.length >> 1, bytes.length - 1]) {
    yield { what: `cut to ${sizeBytes} of ${bytes.length} bytes`, bytes: bytes.subarray(0, sizeBytes) };
  }
}

/** Damages one file after another, tells `examine`, and puts everything back. */
async function forEveryDamage(
  storage: MemoryStorage,
  damages: (bytes: Uint8Array) => Iterable<Damage>,
  examine: (key: string, damage: Damage) => Promise<void>,
): Promise<number> {
  let count = 0;
  const whole = new Map(storage.files);
  for (const [key, bytes] of whole) {
    for (const damage of damages(bytes)) {
      if (damage.bytes === undefined) storage.files.delete(key);
      else storage.files.set(key, damage.bytes);
      try {
        await examine(key, damage);
        count += 1;
      } catch (cause) {
        throw new Error(`Seed ${seed}: ${key}, ${damage.what}`, { cause });
      } finally {
        storage.files.set(key, bytes);
        // A check records what it found.
        for (const other of storage.files.keys()) if (!whole.has(other)) storage.files.delete(other);
      }
    }
  }
  return count;
}

async function errorsOf(repo: OpenedRepository): Promise<Finding[]> {
  const { findings } = await checkRepository(repo, { readData: true }, ctx);
  return findings.filter(({ severity }) => severity === 'error');
}

/** What a check must say of damage to a file of that kind, whatever else it says. */
const expectedCodes: Readonly<Record<string, RegExp>> = {
  config: /^config-damaged$/,
  keys: /^key-damaged$/,
  index: /^index-damaged$/,
  snapshots: /^snapshot-damaged$/,
  locks: /^lock-damaged$/,
  data: /^pack-(damaged|size-differs|missing)$/,
};
const kindOf = (key: string): string => key.split('/')[0] ?? key;

async function requireReported(repo: OpenedRepository, key: string): Promise<Finding[]> {
  const errors = await errorsOf(repo);
  const expected = expectedCodes[kindOf(key)] ?? assert.fail(key);
  const found = errors.some(({ subject, code }) => subject === key && expected.test(code));
  assert.ok(found, `no error about the file, but ${JSON.stringify(errors)}`);
  return errors;
}

describe(`damage to every file of a repository (seed ${seed})`, () => {
  const storage = new MemoryStorage();
  let repo: OpenedRepository;
  let otherKey: string;

  before(async () => {
    repo = await createCheapRepository(storage, ctx);
    otherKey = await saveCheapKey(repo, 'another password', ctx);
    await using store = await openSnapshotStore(storage, password, ctx, { workers: 1 });
    for (const version of versions) {
      await writeSnapshot(store, version, sampleArtifacts(version, seed, 64 << 10), ctx);
    }
    await repo.saveUnpacked(
      'locks',
      JSON.stringify({
        time: new Date().toISOString(),
        exclusive: false,
        hostname: 'elsewhere',
        username: 'u',
        pid: 7,
      }),
      ctx.signal,
    );
    assert.deepEqual((await checkRepository(repo, { readData: true }, ctx)).findings, []);
  });

  const artifactsOf = new Map(versions.map((version) => [version, sampleArtifacts(version, seed, 64 << 10)]));

  /** Tries to read every artifact of every snapshot. Whatever is read is right; the rest is refused as damaged. */
  const readEverything = async (): Promise<{ readonly affected: Set<string>; readonly read: number }> => {
    const affected = new Set<string>();
    let read = 0;
    await using store = await openSnapshotStore(storage, password, ctx);
    for (const { id, time } of await store.list(ctx)) {
      await using source = await store.open(id, undefined, ctx);
      for (const { path, bytes } of artifactsOf.get(time.getUTCDate()) ?? assert.fail()) {
        try {
          const got = await readArtifact(source, path, ctx);
          assert.ok(bytes.equals(got), `${path} was handed out wrong`);
          read += 1;
        } catch (error) {
          if (!(error instanceof CorruptionError)) throw error;
          affected.add(`snapshots/${id}`);
        }
      }
      await source.manifest(ctx.signal).catch((error: unknown) => {
        if (!(error instanceof CorruptionError)) throw error;
        affected.add(`snapshots/${id}`);
      });
    }
    return { affected, read };
  };

  /** Opening or reading fails as damage, as a wrong password or because a lock cannot be read; never otherwise. */
  const requireHonest = async (key: string, errors: readonly Finding[]): Promise<void> => {
    const reported = errors.filter(({ code }) => code === 'snapshot-affected').map(({ subject }) => subject);
    try {
      const { affected, read } = await readEverything();
      assert.deepEqual([...affected].sort(), reported.sort());
      if (kindOf(key) !== 'data') assert.ok(read > 0);
    } catch (error) {
      assert.ok(error instanceof TarsError, `not a TarsError: ${String(error)}`);
      const allowed: Readonly<Record<string, readonly string[]>> = {
        config: ['corruption', 'unsupported-version', 'repository-not-found'],
        keys: ['wrong-password', 'corruption', 'unsupported-version'],
        index: ['corruption'],
        locks: ['repository-locked'],
      };
      assert.ok(allowed[kindOf(key)]?.includes(error.code), `${error.code}: ${error.message}`);
    }
  };

  test('every flipped bit is reported, and no reader hands out wrong bytes', async (t) => {
    const random = seededRandom(seed);
    const count = await forEveryDamage(
      storage,
      (bytes) => flips(bytes, random),
      async (key) => requireHonest(key, await requireReported(repo, key)),
    );
    t.diagnostic(`${count} flips in ${storage.files.size} files`);
    assert.ok(count >= storage.files.size * 3);
  });

  test('every truncation is reported, and no reader hands out wrong bytes', async () => {
    await forEveryDamage(storage, truncations, async (key) =>
      requireHonest(key, await requireReported(repo, key)),
    );
  });

  test('a file that is gone is reported where the format can tell', async () => {
    await forEveryDamage(
      storage,
      () => [{ what: 'removed', bytes: undefined }],
      async (key) => {
        const errors = await errorsOf(repo);
        // A snapshot that was forgotten, a key that was removed and a lock that was released look no different.
        if (['snapshots', 'keys', 'locks'].includes(kindOf(key))) assert.deepEqual(errors, []);
        else if (kindOf(key) === 'index') assert.ok(errors.some(({ code }) => code === 'snapshot-affected'));
        else await requireReported(repo, key);
      },
    );
  });

  test('what is gone is refused as damage by every reader', async () => {
    await forEveryDamage(
      storage,
      () => [{ what: 'removed', bytes: undefined }],
      async (key) => requireHonest(key, await errorsOf(repo)),
    );
  });

  test('a damaged key does not keep the others from opening the repository', async () => {
    for (const [key, secret] of [
      [`keys/${otherKey}`, password],
      [
        [...storage.files.keys()].find((k) => k.startsWith('keys/') && !k.includes(otherKey)),
        'another password',
      ],
    ] as const) {
      assert.ok(key);
      const bytes = storage.files.get(key) ?? assert.fail(key);
      for (const damage of [...truncations(bytes), ...flips(bytes, seededRandom(seed))]) {
        storage.files.set(key, damage.bytes ?? assert.fail());
        const opened = await openRepository(storage, secret, ctx).catch((cause: unknown) => {
          throw new Error(`Seed ${seed}: ${key}, ${damage.what}`, { cause });
        });
        assert.equal(opened.id, repo.id);
      }
      storage.files.set(key, bytes);
    }
  });
});

describe(`damage to a repository stock restic wrote (seed ${seed})`, () => {
  let storage: MemoryStorage;
  let repo: OpenedRepository;

  /** Compressed and uncompressed packs, names that need quoting, an empty file. */
  before(async () => {
    const files = new Map<string, Uint8Array>();
    const directory = await mkdtemp(join(tmpdir(), 'tars-damage-'));
    try {
      const location = join(directory, 'repository');
      const source = join(directory, 'source');
      const env = { ...process.env, RESTIC_PASSWORD: password, RESTIC_REPOSITORY: location };
      const restic = (...args: string[]) =>
        promisify(execFile)('restic', ['--no-cache', '--quiet', ...args], { env });
      await mkdir(join(source, 'a "quoted" näme\n'), { recursive: true });
      await writeFile(join(source, 'empty'), '');
      await restic('init');
      // Its own key, which would take half a second each time, is put back.
      const [keys, kept] = [join(location, 'keys'), join(directory, 'keys')];
      await cp(keys, kept, { recursive: true });
      await cheapenKey(location, password);
      for (const { path, bytes } of sampleArtifacts(1, seed, 64 << 10)) {
        await writeFile(join(source, 'a "quoted" näme\n', path.replaceAll('/', '_')), bytes);
        await restic('backup', '--compression', path.startsWith('p') ? 'max' : 'off', source);
      }
      await rm(keys, { recursive: true });
      await rename(kept, keys);
      for (const entry of await readdir(location, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const path = join(entry.parentPath, entry.name);
        const key = relative(location, path).replace(/^data\/../, 'data');
        files.set(key, await readFile(path));
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    storage = new MemoryStorage(files);
    // Opened once: restic's key takes half a second to derive.
    repo = await openRepository(storage, password, ctx);
  });

  test('the sound repository has no findings', async () => {
    const report = await checkRepository(repo, { readData: true }, ctx);
    assert.deepEqual(report.findings, []);
    assert.equal(report.snapshots, 5);
  });

  test('every flipped bit and every truncation is reported', async () => {
    const random = seededRandom(seed);
    await forEveryDamage(
      storage,
      function* (bytes) {
        yield* flips(bytes, random);
        yield* truncations(bytes);
      },
      async (key) => {
        await requireReported(repo, key);
      },
    );
  });
});
