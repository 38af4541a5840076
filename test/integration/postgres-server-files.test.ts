import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { recovery } from '../../src/components/postgres/recovery.ts';
import { testContext } from '../fixtures/context.ts';
import { createDirectorySink } from '../fixtures/artifacts.ts';
import { startBench, takeSnapshot, type PostgresBench } from '../fixtures/postgres.ts';

const ctx = testContext();
let bench: PostgresBench;
before(async () => {
  bench = await startBench();
  const { dataDir } = bench.server;
  await mkdir(join(dataDir, 'conf.d'), { mode: 0o755 });
  await writeFile(join(dataDir, 'conf.d/10 memory.conf'), "work_mem = '5MB'\n");
  const settings = join(dataDir, 'postgresql.conf');
  await writeFile(settings, `${await readFile(settings, 'utf8')}include_dir 'conf.d'\n`);
  await bench.sql('postgres', "ALTER SYSTEM SET log_statement = 'ddl'", 'SELECT pg_reload_conf()');
});
after(() => bench[Symbol.asyncDispose]());

const names = ['10 memory.conf', 'pg_hba.conf', 'pg_ident.conf', 'postgresql.auto.conf', 'postgresql.conf'];

test('settings and access rules of the server are captured beside the dumps, and brought back by lines of the kit alone', async () => {
  const component = bench.component({ databases: ['postgres'] });
  const out = join(bench.root, 'out');
  const { manifest, source } = await takeSnapshot(component, out);
  const files = manifest.facts['serverFiles'] as { path: string; artifact: string }[];
  assert.deepEqual(
    files.map(({ artifact }) => artifact).sort(),
    names.map((name) => `postgres/server/${name}`),
  );
  for (const { path, artifact } of files)
    assert.deepEqual(await readFile(join(out, artifact)), await readFile(path), path);
  const options = { restoreConfig: true, restoreId: 'files1' };
  const planned = await component.planRestore(manifest, options, ctx, source);
  assert.deepEqual(
    planned.plan.artifacts.filter((path) => path.includes('/server/')),
    [],
  );
  const { then = [], commands } = recovery.step(
    { component: manifest, home: {}, compose: undefined },
    undefined,
  );
  assert.ok(commands.every((line) => !line.includes('/server/')));
  const hba = join(bench.server.dataDir, 'pg_hba.conf');
  assert.match(then.join(), new RegExp(`stop it and run: cp .*cp postgres/server/pg_hba.conf ${hba}`));
});

test('a user that may not read them captures the rest and is told, and an archive in the clear has none', async () => {
  await bench.sql(
    'postgres',
    "CREATE ROLE limited LOGIN PASSWORD 'limited'",
    'GRANT pg_read_all_data TO limited',
  );
  const limited = bench.component({ databases: ['postgres'], user: 'limited', password: 'limited' });
  const { warnings } = await limited.probe(ctx);
  assert.ok(
    warnings.some((warning) => /pg_hba\.conf .* not captured: .*permission denied/.test(warning)),
    warnings.join(),
  );
  const { manifest } = await takeSnapshot(limited, join(bench.root, 'limited'));
  assert.equal(manifest.facts['serverFiles'], undefined);
  const sink = createDirectorySink(join(bench.root, 'clear'), { encrypted: false });
  await using prepared = await bench.component({ databases: ['postgres'] }).prepare(ctx);
  await prepared.mark(ctx.signal);
  await prepared.settle(ctx);
  await prepared.capture(sink, ctx);
  assert.ok(sink.artifacts.every(({ path }) => !path.includes('/server/')));
});
