import assert from 'node:assert/strict';
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, stringify } from 'yaml';
import { loadPassages } from '../../src/demo/corpus.ts';
import { loadStack } from '../../src/demo/load.ts';
import { observe } from '../../src/demo/observe.ts';
import { waitUntil } from '../../src/demo/servers/common.ts';
import { type DemoStack } from '../../src/demo/stack.ts';
import { startTestStack } from '../fixtures/postgres-cluster.ts';
import { decodeManifest } from '../../src/model/manifest.ts';
import { createLocalStorage } from '../../src/storage/local/local-storage.ts';
import { isCampaign } from '../fixtures/campaign.ts';
import { createWithCheapKey } from '../fixtures/cheap-key.ts';
import { tars } from '../fixtures/cli.ts';
import { testContext } from '../fixtures/context.ts';
import { followPage, readRecoveryPage, type RecoveryPage } from '../fixtures/recovery-page.ts';
import { stockRestics } from '../fixtures/restic.ts';

const ctx = testContext();
const key = `it's a key, with "signs" & \\ in it`;

/** The demo's stack with a repository and without its application, which would go on writing. */
async function prepareStack(root: string): Promise<DemoStack> {
  const demo = await startTestStack(root, ctx);
  await loadStack(demo, (await loadPassages()).slice(0, 300));
  await writeFile(join(root, 'tars-recovery.key'), `${key}\n`, { mode: 0o600 });
  await createWithCheapKey(createLocalStorage(demo.repositoryPath), key, ctx);
  await changeSettings(demo, ({ services, ...rest }) => {
    const { backend: _application, ...stores } = services ?? {};
    return { ...rest, services: stores };
  });
  return demo;
}

interface SomeSettings {
  readonly services?: Readonly<Record<string, unknown>>;
  readonly [section: string]: unknown;
}

async function changeSettings(
  { settingsPath }: DemoStack,
  change: (settings: SomeSettings) => SomeSettings,
): Promise<void> {
  const settings = parse(await readFile(settingsPath, 'utf8')) as SomeSettings;
  await writeFile(settingsPath, stringify(change(settings)), { mode: 0o600 });
}

/** A backup, and the page that is printed after it. */
async function backUpAndPrint({ root, settingsPath }: DemoStack, name: string): Promise<RecoveryPage> {
  const output = join(root, name);
  for (const args of [['backup'], ['key', 'export', '--output', output]]) {
    const { exitCode, stderr } = await tars(['--config', settingsPath, ...args]);
    assert.equal(exitCode, 0, stderr);
  }
  return readRecoveryPage(await readFile(output, 'utf8'));
}

async function requireArtifacts(folder: string): Promise<void> {
  const manifest = decodeManifest(await readFile(join(folder, 'manifest.json')), folder);
  for (const { path, sha256 } of manifest.components.flatMap(({ artifacts }) => artifacts)) {
    const content = await readFile(join(folder, path));
    assert.equal(createHash('sha256').update(content).digest('hex'), sha256, path);
  }
}

async function storesAnswer({ chroma, redis }: DemoStack): Promise<void> {
  const redisAnswers = async (): Promise<void> => {
    const env = { REDISCLI_AUTH: redis.password ?? '' };
    const { stdout } = await execa('redis-cli', ['-p', String(redis.port), 'ping'], { env });
    if (stdout !== 'PONG') throw new Error(stdout);
  };
  const chromaAnswers = async (): Promise<void> => {
    if (!(await fetch(`${chroma.url}/api/v2/heartbeat`)).ok) throw new Error('Chroma is not ready');
  };
  await waitUntil('the stores answer', () => Promise.all([redisAnswers(), chromaAnswers()]), ctx);
}

test('a stranger brings the stack back by the printed page, stock restic, the stores’ programs and a shell', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tars-stranger-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await using demo = await prepareStack(root);
  const before = await observe(demo);
  const trueConfig = await readFile(demo.configFile, 'utf8');
  const page = await backUpAndPrint(demo, 'page.txt');
  const rescue = (name: string): string => join(root, name, 'tars', 'tars-demo');
  const everything = /./;

  for (const [round, restic] of stockRestics.entries()) {
    const name = `rescue-${restic.version}`;
    // Everything with one of them; with the others what restic does of it.
    const steps = round === 0 || isCampaign ? everything : /^(?:Open|Extract)/;
    if (steps === everything) {
      await demo.destroy();
      await demo.replaceHardware();
    }
    const said = await followPage(page, steps, {
      restic,
      workplace: join(root, `workplace-${restic.version}`),
      instead: { '/var/tmp/tars-rescue': join(root, name) },
      env: { PGPASSWORD: demo.postgres.password },
    });
    assert.ok(said.split('\n').includes(page.head('Its check')), said);
    assert.ok(said.includes(page.head('Its id')), said);
    await requireArtifacts(rescue(name));
    if (steps !== everything) continue;
    await storesAnswer(demo);
    assert.deepEqual(await observe(demo), before);
    assert.equal(await readFile(demo.configFile, 'utf8'), trueConfig);
    // What an append-only Redis was not given for its log, it loses when it stops.
    await demo.redis.stop();
    await demo.redis.start();
    assert.deepEqual(await observe(demo), before);
  }

  const identities = ['one.txt', 'two.txt'].map((name) => join(root, name));
  for (const identity of identities) await execa('age-keygen', ['-o', identity]);
  const recipients = await Promise.all(
    identities.map(async (identity) => (await execa('age-keygen', ['-y', identity])).stdout),
  );
  await changeSettings(demo, (rest) => ({ ...rest, secrets: 'sealed', age_recipients: recipients }));
  const sealedPage = await backUpAndPrint(demo, 'sealed-page.txt');
  for (const [round, identity] of identities.entries()) {
    await rm(demo.configFile);
    await followPage(sealedPage, /^(?:Open|Extract|Configuration)/, {
      restic: stockRestics.at(-1 - round) ?? stockRestics[0]!,
      workplace: join(root, `workplace-sealed-${round}`),
      instead: {
        '/var/tmp/tars-rescue': join(root, `sealed-${round}`),
        '/path/to/age-identity.txt': identity,
      },
    });
    await requireArtifacts(rescue(`sealed-${round}`));
    assert.equal(await readFile(demo.configFile, 'utf8'), trueConfig);
  }
});
