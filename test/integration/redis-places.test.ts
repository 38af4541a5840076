import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRedisComponent, type RedisOptions } from '../../src/components/redis/index.ts';
import { startRedis, type PrivateRedis } from '../../src/demo/servers/redis.ts';
import { RestoreRefusedError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import type { RestorePlan } from '../../src/model/restore-plan.ts';
import type { Component, PlannedRestore } from '../../src/ports/component.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { testContext } from '../fixtures/context.ts';
import { clientOf, disposable } from '../fixtures/redis.ts';

const ctx = testContext();
let root: string;
let server: PrivateRedis;
let captured: ComponentManifest;

const componentFor = (options: Partial<RedisOptions> = {}): Component =>
  createRedisComponent({
    name: 'redis',
    service: 'redis',
    host: server.host,
    port: server.port,
    username: undefined,
    password: undefined,
    dataDir: server.dataDir,
    scratchDir: join(root, 'scratch'),
    ...options,
  });

const planned = (component: Component): Promise<PlannedRestore> =>
  component.planRestore(captured, { restoreConfig: false, restoreId: 'r1' }, ctx, noArtifacts);
const plan = async (component: Component): Promise<RestorePlan> => (await planned(component)).plan;

const refused =
  (message: RegExp) =>
  (error: unknown): boolean =>
    error instanceof RestoreRefusedError && message.test(error.message);

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-redis-places-'));
  server = await startRedis(root, ctx, {});
  await using client = disposable(clientOf(server));
  await client.redis.set('k', 'captured');
  const sink = createDirectorySink(join(root, 'out'), { encrypted: true });
  await using prepared = await componentFor().prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  const { facts } = await prepared.capture(sink, ctx);
  captured = {
    name: 'redis',
    kind: 'redis',
    outcome: 'captured',
    facts: { ...facts },
    artifacts: [...sink.artifacts],
  };
});
after(async () => {
  await server.stop();
  await rm(root, { recursive: true, force: true });
});

test('a data directory behind a link: restored files get the mode and owner of the directory, not of the link', async () => {
  const link = join(root, 'link');
  await symlink(server.dataDir, link);
  const component = componentFor({ dataDir: link });
  await mkdir(join(server.dataDir, 'appendonlydir'));
  const staged = await (await planned(component)).stage(createDirectorySource(join(root, 'out')), ctx);
  const { mode } = await stat(join(server.dataDir, '.tars-new-r1', 'appendonlydir'));
  assert.equal(mode & 0o777, 0o700);
  await staged.discard(ctx);
});

test('an append-only directory is replaced although the server does not use it now: it may at its next start', async () => {
  await mkdir(join(server.dataDir, 'appendonlydir'), { recursive: true });
  const { steps } = await plan(componentFor());
  assert.ok(
    steps.some((step) => step.includes('fresh appendonlydir')),
    steps.join(),
  );
  await rm(join(server.dataDir, 'appendonlydir'), { recursive: true });
  assert.ok((await plan(componentFor())).steps.every((step) => !step.includes('appendonlydir')));
});

test('a replica is refused: its master would replace what is restored', async () => {
  await using client = disposable(clientOf(server));
  await client.redis.replicaof('127.0.0.1', 1);
  await assert.rejects(plan(componentFor()), refused(/is a replica/));
  await client.redis.replicaof('NO', 'ONE');
});

test('a data directory that is not the one the server works in is warned of', async () => {
  const other = join(root, 'other');
  await mkdir(other);
  const warned = await plan(componentFor({ dataDir: other }));
  assert.match(warned.warnings.join(), /keeps its data in .*data, not in .*other/);
  assert.deepEqual((await plan(componentFor())).warnings, []);
});
