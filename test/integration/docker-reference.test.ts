import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { campaignSeed, isCampaign } from '../fixtures/campaign.ts';
import { loadBulkProject, type BulkProjectSizes } from '../fixtures/docker/bulk-project.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { compareWithLedger, type LedgerEntry } from '../fixtures/docker/ledger.ts';
import {
  fingerprint,
  oftenWritten,
  remains,
  startProject,
  type StartedProject,
} from '../fixtures/docker/project.ts';
import { tarsOn, type TarsOn } from '../fixtures/docker/tars-on.ts';
import { wholeCut } from '../fixtures/docker/whole-cut.ts';

const docker = await dockerForTests();
const skip = docker.skip || (process.getuid?.() === 0 ? false : 'needs root');

/** Of a run's process, worker threads included. */
const peakMaxBytes = 400e6;
const megabytes = 1e6;
const large: BulkProjectSizes = {
  ...{ postgresBytes: 1600 * megabytes, redisBytes: 500 * megabytes, modelBytes: 1800 * megabytes },
  records: 20_000,
};

interface Case {
  /** Who runs tars. */
  readonly who: 'root' | 'a user of the group docker';
  readonly rounds: number;
  /** Loaded beside what the backend writes. */
  readonly bulk?: BulkProjectSizes;
}

/** Root's way back from nothing is in docker-restore.test.ts as well, in more detail. */
const cases: readonly Case[] = isCampaign
  ? [
      { who: 'root', rounds: 5 },
      { who: 'a user of the group docker', rounds: 5 },
      { who: 'root', rounds: 1, bulk: large },
      { who: 'a user of the group docker', rounds: 1, bulk: large },
    ]
  : [{ who: 'a user of the group docker', rounds: 1 }];

/** How stores are captured by somebody who sees their volumes, and by somebody who does not. */
const methods = {
  root: ['chroma physical', 'ollama physical', 'postgres pg_dump', 'redis replication'],
  'a user of the group docker': [
    ...['chroma physical-frozen', 'ollama physical', 'postgres pg_dump', 'redis replication'],
  ],
} as const;

for (const { who, rounds, bulk } of cases) {
  const what = bulk === undefined ? `${rounds} times` : 'with 4 GB in it';
  test(
    `${who} brings the reference project back from nothing, its backend writing all the time, ${what}`,
    { skip },
    async (t) => {
      const unprivileged = who !== 'root';
      // What Compose 2 there is may be root's own.
      const compose = unprivileged ? 'v1' : 'v2';
      await using project = await startProject({
        ...{ engine: docker.engine, prefix: 'rf-', composeVersion: compose, file: 'tars-home' },
        env: oftenWritten,
      });
      const { layout } = project;
      await using tars = await tarsOn(project, {
        ...{ compose, unprivileged, measured: true },
        settings: {
          components: {
            postgres: { service: layout.postgres.service },
            redis: { service: layout.redis.service },
            chroma: { service: layout.chroma.service },
            ollama: { service: layout.ollama.service, models: 'all' },
          },
        },
      });
      await project.exec('ollama', ['ollama', 'pull', 'llama3.2:1b']);
      if (bulk !== undefined) await loadBulkProject(project, bulk, campaignSeed);
      const history = new History(project);
      for (let round = 1; round <= rounds; round++) {
        if (round > 1) {
          await project.compose('start', 'backend');
          await project.waitHealthy();
        }
        await roundTrip(t, project, tars, history, methods[who]);
      }
      reportPeaks(t, tars);
    },
  );
}

/** What must be in the stores: all that was written but what a restore undid. */
class History {
  readonly #project: StartedProject;
  #kept: readonly LedgerEntry[] = [];
  #seen = 0;

  constructor(project: StartedProject) {
    this.#project = project;
  }

  /** The project is down, and comes back as it was then: what was under way at the cut may be in it or not. */
  async undoSince(cutMs: number): Promise<number> {
    const all = await this.#project.ledger();
    const entries = [...this.#kept, ...all.slice(this.#seen)];
    this.#kept = entries
      .filter(({ intendedMs }) => intendedMs <= cutMs)
      .map((entry) =>
        (entry.acknowledgedMs ?? 0) < cutMs ? entry : { ...entry, acknowledgedMs: undefined },
      );
    this.#seen = all.length;
    return entries.length - this.#kept.length;
  }

  /** With the backend down. */
  async requireStored(): Promise<void> {
    const entries = [...this.#kept, ...(await this.#project.ledger()).slice(this.#seen)];
    assert.deepEqual(await compareWithLedger(this.#project, entries, { acknowledgedBeforeMs: Infinity }), []);
  }
}

async function roundTrip(
  t: TestContext,
  project: StartedProject,
  tars: TarsOn,
  history: History,
  expected: readonly string[],
): Promise<void> {
  await project.writesOn(20);
  const before = await fingerprint(project);
  const manifest = await wholeCut(async () => {
    await tars.ok(['backup']);
    return tars.manifest();
  });
  assert.equal(await fingerprint(project), before, 'nobody was restarted');
  const found = manifest.components.map(({ name, method }) => `${name} ${method ?? 'none'}`);
  assert.deepEqual(found.sort(), expected);
  const chroma = manifest.components.find(({ name }) => name === 'chroma');
  t.diagnostic(`writerPauseMs ${manifest.writerPauseMs}, Chroma blocked ${chroma?.writesBlockedMs} ms`);
  await project.writesOn(10);

  await project.compose('down', '--volumes');
  assert.deepEqual(await remains(docker.engine, project.name), []);
  const undone = await history.undoSince(Date.parse(manifest.time));
  assert.ok(undone > 0, 'the backend went on writing after the cut');
  const restored = await tars.ok(['restore', '--yes']);
  const distant = expected.includes('chroma physical-frozen');
  assert.equal(/docker run --rm --user 0:0 --network none/.test(restored.stdout), distant, 'the way back');
  await project.waitHealthy();
  await project.writesOn(10);
  await project.compose('stop', 'backend');
  await history.requireStored();
  await project.exec('ollama', ['ollama', 'verify']);
  assert.match(await project.exec('ollama', ['ollama', 'list']), /^llama3\.2:1b$/m);
  await requireTidy(project, tars);
}

async function requireTidy(project: StartedProject, tars: TarsOn): Promise<void> {
  const scratch = await readdir(join(tars.directory, 'scratch')).catch(() => []);
  assert.deepEqual(scratch, []);
  const ofProject = ['--filter', `volume=${project.name}_chroma_data`, '--filter', 'label=com.tars.helper'];
  assert.equal(await docker.engine.docker(['ps', '--all', '--quiet', ...ofProject]), '');
}

function reportPeaks(t: TestContext, { peaksBytes }: TarsOn): void {
  for (const verb of ['backup', 'restore']) {
    const peakBytes = peaksBytes.get(verb) ?? Number.NaN;
    t.diagnostic(`${verb}: at most ${Math.round(peakBytes / 1e6)} MB in memory`);
    // Node alone has more than 30 MB: less, or nothing, was not measured.
    assert.ok(peakBytes > 30e6 && peakBytes < peakMaxBytes, `${verb} had ${peakBytes} bytes`);
  }
}
