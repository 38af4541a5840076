import assert from 'node:assert/strict';
import { manifestSchemaVersion, type Manifest, type ManifestArtifact } from '../../src/model/manifest.ts';
import type { PublishedSnapshot } from '../../src/model/snapshot.ts';
import type { Bytes, ChunkingHint } from '../../src/ports/artifacts.ts';
import type { Clock, OperationContext } from '../../src/ports/context.ts';
import type { SnapshotSource, SnapshotStore } from '../../src/ports/snapshot-store.ts';
import type { StorageBackend } from '../../src/ports/storage.ts';
import { InterruptedError } from '../../src/model/errors.ts';
import { type OpenedRepository } from '../../src/repository/open.ts';
import { seededRandom } from '../fixtures/campaign.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { testContext } from '../fixtures/context.ts';
import { FaultyStorage, type CrashPoint, type MemoryStorage } from '../fixtures/storage.ts';

export const password = 'simulated';
export const stack = 'tars-home';

/**
 * The machine's clock for times, but waits of up to a second end at once and longer ones when they are aborted.
 * `monotonicMs` runs six minutes a look with `hasty`, so that every pack is old enough to be indexed.
 */
export function simulatedContext(options: { readonly hasty?: boolean } = {}): OperationContext {
  const real = testContext();
  let looks = 0;
  const clock: Clock = {
    now: () => real.clock.now(),
    monotonicMs: () => (options.hasty === true ? ++looks * 360_000 : real.clock.monotonicMs()),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) reject(new InterruptedError());
        else if (ms < 1000) setImmediate(resolve);
        else signal.addEventListener('abort', () => reject(new InterruptedError()), { once: true });
      }),
  };
  return { ...real, clock };
}

/** A repository whose only key costs next to nothing to open: a campaign opens it thousands of times. */
export const createCheapRepository = (
  storage: StorageBackend,
  ctx: OperationContext,
): Promise<OpenedRepository> => createWithCheapKey(storage, password, ctx);

export interface SampleArtifact {
  readonly path: string;
  readonly chunking: ChunkingHint;
  readonly bytes: Buffer;
}

const randomBytes = (seed: number, sizeBytes: number): Buffer => {
  const random = seededRandom(seed);
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at + 4 <= sizeBytes; at += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  return bytes;
};

/**
 * What version `version` of the stack consists of: a dump that grows, pages changed in place, a model that never
 * changes, a configuration and an empty file. Later versions share most of their blobs with earlier ones.
 */
export function sampleArtifacts(version: number, seed: number, modelBytes: number): SampleArtifact[] {
  const rows = Array.from({ length: 3000 + version * 500 }, (_, i) => `${seed};${i};row ${(i * i) % 9973}\n`);
  const pages = randomBytes(seed, 256 << 10);
  randomBytes(seed + version, 4096).copy(pages, 64 << 10);
  return [
    { path: 'postgres/main.dump', chunking: 'stream', bytes: Buffer.from(rows.join('')) },
    { path: 'chroma/chroma.sqlite3', chunking: 'pages', bytes: pages },
    { path: 'ollama/blobs/sha256-0', chunking: 'large', bytes: randomBytes(seed + 1000, modelBytes) },
    { path: 'config/true/.env', chunking: 'small', bytes: Buffer.from(`VERSION=${version}\nSEED=${seed}\n`) },
    { path: 'redis/empty', chunking: 'small', bytes: Buffer.alloc(0) },
  ];
}

async function* inParts(bytes: Buffer): Bytes {
  for (let at = 0; at < bytes.length; at += 100_000) {
    await Promise.resolve();
    yield Buffer.from(bytes.subarray(at, at + 100_000));
  }
}

/** The version a snapshot is of stands in its manifest's tool version. */
export async function writeSnapshot(
  store: SnapshotStore,
  version: number,
  artifacts: readonly SampleArtifact[],
  ctx: OperationContext,
): Promise<PublishedSnapshot> {
  await using writer = await store.begin({ stack, hostname: 'simulation', username: 'root' }, ctx);
  const written: ManifestArtifact[] = [];
  for (const { path, bytes, chunking } of artifacts) {
    const attributes = { mode: 0o600, uid: 0, gid: 0, mtimeNs: BigInt(version) };
    written.push(await writer.write(path, inParts(bytes), { attributes, chunking, signal: ctx.signal }));
  }
  const time = new Date(Date.UTC(2026, 0, version)).toISOString();
  const component = {
    name: 'all',
    kind: 'sample',
    outcome: 'captured',
    facts: {},
    artifacts: written,
  } as const;
  const manifest: Manifest = {
    schemaVersion: manifestSchemaVersion,
    stack,
    toolVersion: `0.0.${version}`,
    hostname: 'simulation',
    time,
    startedAt: time,
    finishedAt: time,
    consistency: 'per-store',
    outcome: 'complete',
    components: [component],
    notCaptured: [],
  };
  return await writer.publish(manifest, ctx);
}

export async function readArtifact(
  source: SnapshotSource,
  path: string,
  ctx: OperationContext,
): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(source.open(path, ctx.signal)));
}

/** Every published snapshot has all artifacts of its version, byte for byte. Returns the versions found. */
export async function verifySnapshots(
  store: SnapshotStore,
  artifactsOf: (version: number) => readonly SampleArtifact[],
  ctx: OperationContext,
): Promise<number[]> {
  const versions: number[] = [];
  for (const { id } of await store.list(ctx)) {
    await using source = await store.open(id, undefined, ctx);
    const manifest = await source.manifest(ctx.signal);
    const version = Number(manifest.toolVersion.split('.').at(-1));
    for (const { path, bytes } of artifactsOf(version)) {
      assert.ok(bytes.equals(await readArtifact(source, path, ctx)), `${path} of version ${version} differs`);
    }
    versions.push(version);
  }
  return versions;
}

/** What `work` leaves of a copy of `fresh` when the storage fails there and for good. */
export async function leftByCrash(
  fresh: MemoryStorage,
  crash: CrashPoint,
  work: (storage: StorageBackend) => Promise<unknown>,
): Promise<MemoryStorage> {
  const left = fresh.copy();
  const storage = new FaultyStorage(left, crash);
  await work(storage).catch((error: unknown) => {
    if (!storage.fired) throw error;
  });
  assert.ok(storage.fired, 'the fault did not fire');
  return left;
}
