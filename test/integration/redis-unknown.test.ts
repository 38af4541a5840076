import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readContent } from '../../src/components/redis/content.ts';
import { createRedisComponent } from '../../src/components/redis/index.ts';
import { Crc64 } from '../../src/components/redis/rdb/crc64.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { CorruptionError } from '../../src/model/errors.ts';
import type { Finding } from '../../src/model/finding.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable } from '../fixtures/redis.ts';

const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
/** Where `scripts/newest-redis.sh` puts it. */
const redis8 = join(cache, 'tars-demo', 'redis-8', 'redis-server');

const ctx = testContext();
let root: string;
let server: PrivateRedis;
let captured: ComponentManifest;
let rdb: Buffer;

const componentFor = ({ port, dataDir }: PrivateRedis = server): Component =>
  createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: '127.0.0.1',
    port,
    username: undefined,
    password: undefined,
    dataDir,
    scratchDir: join(root, 'scratch'),
  });

async function capture(component: Component, out: string, context = ctx): Promise<ComponentManifest> {
  await using prepared = await component.prepare(context);
  await prepared.mark(context.signal);
  await prepared.settle(context);
  const sink = createDirectorySink(out, { encrypted: true });
  const { facts } = await prepared.capture(sink, context);
  const rest = { name: 'redis', kind: 'redis', outcome: 'captured' } as const;
  return { ...rest, facts: { ...facts }, artifacts: [...sink.artifacts] };
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-unknown-'));
  server = await startRedis(root, ctx, { lines: ['save ""'] });
  await using client = disposable(clientOf(server));
  await client.redis.mset('a', '1', 'b', '2');
  captured = await capture(componentFor(), join(root, 'known'));
  rdb = await readFile(join(root, 'known/redis/dump.rdb'));
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

/** An RDB with `more` before its end, and a checksum that fits. */
function rdbWith(more: readonly number[], version = 'REDIS0010'): Buffer {
  const body = Buffer.concat([Buffer.from(version), rdb.subarray(9, -9), Buffer.from(more), Buffer.of(255)]);
  const crc = new Crc64();
  crc.update(body);
  const sum = Buffer.alloc(8);
  sum.writeBigUInt64LE(crc.value);
  return Buffer.concat([body, sum]);
}

/** The snapshot as a capture of a server that holds `bytes` would have left it. */
async function snapshotOf(
  bytes: Buffer,
  name: string,
): Promise<{ readonly out: string; readonly from: ComponentManifest }> {
  const out = join(root, name);
  await mkdir(join(out, 'redis'), { recursive: true });
  await writeFile(join(out, 'redis/dump.rdb'), bytes);
  const { content, unread } = await readContent(() => chunksOf(bytes), undefined, 'it');
  const { content: _, ...rest } = captured.facts;
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const artifacts = [{ path: 'redis/dump.rdb', sizeBytes: bytes.length, sha256 }];
  const facts = { ...rest, ...(content === undefined ? { unverified: unread } : { content }) };
  return { out, from: { ...captured, facts, artifacts } };
}

// eslint-disable-next-line @typescript-eslint/require-await
async function* chunksOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
}

async function stage(from: ComponentManifest, out: string, component = componentFor()): Promise<Staged> {
  const options = { restoreConfig: false, restoreId: 'r1' };
  const planned = await component.planRestore(from, options, ctx, noArtifacts);
  return planned.stage(createDirectorySource(out), ctx);
}

const shown = (findings: readonly Finding[]): unknown =>
  findings.map(({ severity, code, message }) => [severity, code, message]);

/** `vectorset`, version 1, as `moduleTypeEncodeId` packs it, then one part of each kind, then the end. */
const moduleId = [0x81, 0xbd, 0xe7, 0x2d, 0xa2, 0xbb, 0x1e, 0xb4, 0x01];
const parts = [
  1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2, 104, 105, 0,
];
const vectorSet = (key: string): number[] => [7, key.length, ...Buffer.from(key), ...moduleId, ...parts];

test('a value of a module costs its own verification alone', async () => {
  const { out, from } = await snapshotOf(rdbWith([247, ...moduleId, ...parts, ...vectorSet('vs')]), 'module');
  const staged = await stage(from, out);
  const file = await readFile(join(server.dataDir, '.tars-new-r1/dump.rdb'));
  assert.deepEqual(file, await readFile(join(out, 'redis/dump.rdb')));
  const message = 'The keys are compared, but not their values: 2 values of the module type vectorset';
  assert.deepEqual(shown(await staged.verify(ctx)), [['warning', 'values-not-compared', message]]);
  await staged.discard(ctx);
  // Everything else is compared, and so is that the key is there.
  for (const other of [rdbWith(vectorSet('vt')), rdbWith([]), rdb]) {
    const { out: others } = await snapshotOf(other, 'other');
    const wrong = await stage(from, others);
    const errors = (await wrong.verify(ctx)).filter(({ severity }) => severity === 'error');
    assert.equal(errors.length, 1, JSON.stringify(errors));
    await wrong.discard(ctx);
  }
});

for (const [what, bytes, why] of [
  ['a type that nobody knows', () => rdbWith([99, 1, 107, 1, 118]), /a value of type 99/],
  ['a value of a module of 2017', () => rdbWith([6, 1, 107, ...moduleId]), /a value of type 6/],
  ['functions of a preview', () => rdbWith([246, 1, 107]), /preview of Redis 7\.0/],
  [
    'a newer version with another layout',
    () => rdbWith([0, 0xc9], 'REDIS0010'.replace('10', '14')),
    /version 14/,
  ],
] as const) {
  test(`an RDB with ${what} is kept whole and restored byte for byte, and called unverified`, async () => {
    const { out, from } = await snapshotOf(bytes(), 'unread');
    assert.match(String(from.facts['unverified']), why);
    // This server would not load it.
    const options = { restoreConfig: false, restoreId: 'r1' };
    const {
      plan: { warnings },
    } = await componentFor().planRestore(from, options, ctx, noArtifacts);
    assert.ok(
      warnings.some((warning) => warning.startsWith('redis is unverified: ')),
      warnings.join(),
    );
    const staged = await stage(from, out);
    assert.deepEqual(await readFile(join(server.dataDir, '.tars-new-r1/dump.rdb')), bytes());
    assert.deepEqual(
      (await staged.verify(ctx)).map(({ severity, code }) => [severity, code]),
      [['warning', 'content-not-compared']],
    );
    await staged.discard(ctx);
    assert.deepEqual(
      (await componentFor().verify(from, ctx, noArtifacts)).map(({ code }) => code),
      ['content-not-compared'],
    );
    const damaged = await stage(from, join(root, 'known'));
    await assert.rejects(damaged.verify(ctx), CorruptionError);
    await damaged.discard(ctx);
  });
}

test('damage is damage, whatever the version and whatever else is unknown', async () => {
  const flipped = (bytes: Buffer, at: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at] = (copy[at] ?? 0) ^ 1;
    return copy;
  };
  const unknown = rdbWith([99, 1, 107, 1, 118]);
  const newer = rdbWith([0, 0xc9], 'REDIS0014');
  for (const bytes of [
    flipped(unknown, 40),
    flipped(newer, newer.length - 1),
    unknown.subarray(0, -1),
    unknown.subarray(0, -12),
    unknown.subarray(0, 9),
    Buffer.concat([rdb, rdb]),
    rdbWith([0, 0xc9]),
  ])
    await assert.rejects(
      readContent(() => chunksOf(bytes), undefined, 'it'),
      (error: unknown) => error instanceof CorruptionError || /type 99/.test(String(error)),
      `${bytes.length}`,
    );
});

test(
  'a vector set of Redis 8 is captured, restored and served, and named as not compared',
  { skip: existsSync(redis8) ? false : 'no Redis 8; "sh scripts/newest-redis.sh" fetches it' },
  async () => {
    const directory = join(root, 'eight');
    await mkdir(directory);
    await using eight = await startRedis(directory, ctx, { program: redis8, appendOnly: true });
    const component = componentFor(eight);
    const call = async (...[name = '', ...args]: string[]): Promise<unknown> => {
      await using client = disposable(clientOf(eight));
      return await client.redis.call(name, ...args);
    };
    for (let i = 0; i < 50; i++) await call('VADD', 'vs', 'VALUES', '3', `${i}`, '1', '2', `element ${i}`);
    await call('SET', 'k', 'captured');
    const nearest = ['VSIM', 'vs', 'ELE', 'element 7', 'COUNT', '5'];
    const answer = await call(...nearest);
    const warned: string[] = [];
    const log = { ...ctx.log, warn: (message: string) => void warned.push(message) };
    const from = await capture(component, join(root, 'out8'), { ...ctx, log });
    assert.match(
      warned.join(),
      /redis is verified except for 1 value of the module type vectorset\. It is captured completely/,
    );
    const compared = async (): Promise<string[]> =>
      (await component.verify(from, ctx, noArtifacts)).map(({ code }) => code);
    assert.deepEqual(await compared(), ['values-not-compared']);
    await call('SET', 'k', 'changed');
    assert.deepEqual(await compared(), ['key-content-differs', 'values-not-compared']);
    await call('DEL', 'vs');
    const staged = await stage(from, join(root, 'out8'), component);
    await eight.stop();
    await staged.swap(ctx);
    await eight.start();
    assert.equal(await call('GET', 'k'), 'captured');
    assert.deepEqual(await call(...nearest), answer);
    assert.deepEqual(await compared(), ['values-not-compared']);
  },
);
