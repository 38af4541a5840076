import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ChromaBuild } from '../../src/demo/servers/chroma.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { createDirectorySink, createDirectorySource, noArtifacts } from '../fixtures/artifacts.ts';
import { campaignSeed, isCampaign, seededRandom } from '../fixtures/campaign.ts';
import { ageDirectory } from '../fixtures/chroma-ageing.ts';
import { answersOf, placesOf, type Answers, type Place } from '../fixtures/chroma-answers.ts';
import { chromaBuild, ownVersion } from '../fixtures/chroma-builds.ts';
import { chromaAt } from '../fixtures/chroma-component.ts';
import { copyBeside, fillDirectory, schemas, type Schema } from '../fixtures/chroma-corpus.ts';
import { damagedPlace, events, type Event } from '../fixtures/chroma-damage.ts';
import { manifestOf } from '../fixtures/chroma-http.ts';
import { testContext } from '../fixtures/context.ts';

const ctx = testContext();
const eventNamed = (name: string): Event => events.find((event) => event.name === name)!;

interface Case {
  readonly number: number;
  readonly schema: Schema;
  readonly event: Event;
}

/** Every event, on every layout of tables in turn. */
const everyCase: readonly Case[] = Array.from({ length: 100 }, (_, number) => ({
  number,
  schema: schemas[number % schemas.length]!,
  event: events[number < events.length ? number : (number * 7) % events.length]!,
}));
const fewCases: readonly Case[] = [
  { number: 0, schema: schemas[0]!, event: eventNamed('server killed while it wrote') },
  { number: 1, schema: schemas[1]!, event: eventNamed('hot journal') },
  { number: 2, schema: schemas[2]!, event: eventNamed('links cut') },
];

type Outcome =
  | { readonly refused: string }
  | {
      readonly refused?: undefined;
      readonly named: ReadonlySet<string>;
      readonly manifest: ComponentManifest;
    };

async function capture(path: string, into: string, scratch: string): Promise<Outcome> {
  try {
    await using prepared = await chromaAt(path, scratch).prepare(ctx);
    await prepared.mark(ctx.signal);
    await prepared.settle(ctx);
    const sink = createDirectorySink(into, { encrypted: true });
    const report = await prepared.capture(sink, ctx);
    const named = new Set(report.incomplete?.named.map(({ path: place }) => place.replace('chroma/', '')));
    return { named, manifest: manifestOf('chroma', report, sink) };
  } catch (error) {
    assert.ok(error instanceof TarsError && error.code !== 'internal', String(error));
    return { refused: error.message };
  }
}

async function restore(manifest: ComponentManifest, from: string, into: string): Promise<void> {
  const component = chromaAt(into, into);
  const planned = await component.planRestore(
    manifest,
    { restoreConfig: false, restoreId: 'r1' },
    ctx,
    noArtifacts,
  );
  const staged = await planned.stage(createDirectorySource(from), ctx);
  const errors = (await staged.verify(ctx)).filter(({ severity }) => severity === 'error');
  assert.deepEqual(errors, []);
  await staged.swap(ctx);
}

const lines = (answers: Answers): readonly string[] =>
  [...(answers ?? [])].map(([place, { answered, text }]) => `${place}: ${answered ? text : 'fails'}`).sort();

/** Those of which a server answers something else than before the event, or nothing. */
function changedPlaces(before: Answers, after: Answers): readonly string[] {
  return [...(before ?? [])]
    .filter(([place, { text }]) => after?.get(place)?.text !== text)
    .map(([place]) => place);
}

interface Seen {
  readonly sound: Answers;
  readonly after: Answers;
  readonly outcome: Outcome;
  readonly restored: Answers;
}

async function look(
  { number, schema, event }: Case,
  root: string,
  seed: number,
  build: ChromaBuild,
): Promise<Seen> {
  const random = seededRandom(seed + number);
  const home = join(root, 'home');
  const made = await fillDirectory(home, schema, build, random, event.killed === true);
  if (schema.aged !== undefined) await ageDirectory(made, schema.aged);
  const places: readonly Place[] = placesOf(made);
  const directory = await copyBeside(made, root);
  await event.happens(directory);
  const [sound, after] = await Promise.all(
    [made, directory].map((served) => answersOf(served, places, build, root)),
  );
  const outcome = await capture(directory, join(root, 'artifacts'), join(root, 'scratch'));
  if (outcome.refused !== undefined) return { sound, after, outcome, restored: undefined };
  // What a snapshot holds must do without what lies beside the directory.
  await rm(join(directory, '..'), { recursive: true });
  const into = join(root, 'restored');
  await restore(outcome.manifest, join(root, 'artifacts'), into);
  return { sound, after, outcome, restored: await answersOf(into, places, build, root) };
}

function judge({ event }: Case, { sound, after, outcome, restored }: Seen): void {
  assert.ok(sound !== undefined && sound.size > 0, 'the server answers before anything happens');
  assert.deepEqual(
    lines(sound).filter((line) => line.endsWith(': fails')),
    [],
    'before anything happens',
  );
  const changed = changedPlaces(sound, after);
  if (event.expected === 'healthy') {
    assert.deepEqual(changed, [], 'a server finds it healthy');
    assert.equal(outcome.refused, undefined);
  }
  if (event.expected === 'refused') assert.notEqual(outcome.refused, undefined);
  if (outcome.refused !== undefined) {
    if (event.expected === 'collection') assert.equal(sound.size, 1, outcome.refused);
    return;
  }
  assert.deepEqual([...outcome.named], event.expected === 'collection' ? [damagedPlace] : []);
  assert.deepEqual(
    changed.filter((place) => !outcome.named.has(place)),
    [],
    'nothing is damaged that is not named',
  );
  const kept = (answers: Answers): Answers =>
    new Map([...(answers ?? [])].filter(([place]) => !outcome.named.has(place)));
  assert.deepEqual(lines(kept(restored)), lines(kept(after)), 'served equally');
}

const cases = isCampaign ? everyCase : fewCases;

for (const schema of schemas) {
  const own = cases.filter((one) => one.schema === schema);
  if (own.length === 0) continue;
  test(`persist directories of ${schema.name}: healthy ones are served equally, damaged ones named (seed ${campaignSeed})`, async (t) => {
    const build = await chromaBuild(schema.version);
    if (build === undefined) {
      assert.notEqual(schema.version, ownVersion);
      t.skip(`Chroma ${schema.version} does not run here`);
      return;
    }
    const failures: string[] = [];
    for (const one of own) {
      const root = await mkdtemp(join(tmpdir(), 'tars-chroma-'));
      await mkdir(join(root, 'scratch'));
      try {
        const seen = await look(one, root, campaignSeed, build);
        judge(one, seen);
      } catch (error) {
        failures.push(`directory ${one.number}, ${one.event.name}: ${String(error)}`);
      } finally {
        await rm(root, { recursive: true, force: true });
      }
    }
    assert.deepEqual(failures, []);
  });
}
