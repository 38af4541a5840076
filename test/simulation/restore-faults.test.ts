import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasErrors } from '../../src/model/finding.ts';
import { TarsError } from '../../src/model/errors.ts';
import { recoverInterrupted } from '../../src/operations/restore/recover.ts';
import type { RestoreExecution, RestoreResult } from '../../src/operations/restore/restore.ts';
import { names, World, type Fault } from './restore-world.ts';

/** The calls of a restore in which nothing fails. */
async function callsOf(execution: Partial<RestoreExecution>, hadLive: boolean): Promise<readonly string[]> {
  const world = new World(hadLive);
  const result = await world.restore(execution);
  assert.deepEqual(result.findings, []);
  assert.equal(world.generation(), 'new');
  assert.deepEqual([world.down, world.staged, world.violations], [[], [], []]);
  return [...world.calls];
}

type Outcome = { readonly result: RestoreResult } | { readonly error: TarsError };

async function attempt(world: World, execution: Partial<RestoreExecution>): Promise<Outcome> {
  try {
    return { result: await world.restore(execution) };
  } catch (error) {
    assert.ok(error instanceof TarsError, `an untyped error: ${String(error)}`);
    return { error };
  }
}

/** Nothing that was live is gone unless its replacement is live and was compared without errors. */
function requireNothingLost(world: World, where: string): void {
  for (const name of names) {
    const { live, previous } = world.stores[name];
    const kept = world.before === 'none' || live === 'old' || previous === 'old';
    if (!kept) assert.ok(world.calls.includes(`compare ${name}`), `the old ${name} is gone; ${where}`);
  }
  assert.deepEqual(world.violations, [], where);
}

/** What came back to the operator must be true of the world. */
function requireHonest(world: World, outcome: Outcome, where: string): void {
  if ('result' in outcome) {
    assert.equal(world.generation(), 'new', where);
    for (const service of world.down)
      assert.ok(
        outcome.result.findings.some(({ subject }) => subject === service),
        `${service} is down, unsaid; ${where}`,
      );
    return;
  }
  const { code, message } = outcome.error;
  const said = `${code} "${message}"; ${where}`;
  if (/could not be undone/.test(message)) {
    assert.equal(code, 'restore-failed', said);
    return;
  }
  const inPlace = /restored data is in place/.test(message);
  assert.equal(world.generation(), inPlace ? 'new' : world.before, said);
  if (world.staged.length > 0) assert.match(message, /could not be removed/, said);
  for (const service of world.down)
    assert.ok(
      message.includes(service) || world.warnings.some((w) => w.includes(service)),
      `${service} is down, unsaid; ${said}`,
    );
  if (!inPlace && world.staged.length === 0) assert.equal(world.entry?.phase ?? 'staging', 'staging', said);
}

/** The next run, in which nothing fails, leaves one generation whole and nothing to do. */
async function requireRecovered(world: World, allowDown: boolean, where: string): Promise<void> {
  const { entry } = world;
  world.newProcess();
  await world.recover();
  const generation = world.generation();
  assert.ok(generation === 'new' || generation === world.before, `${generation}; ${where}`);
  assert.deepEqual(world.staged, [], where);
  if (!allowDown) assert.deepEqual(world.down, [], where);
  assert.equal(world.entry?.phase ?? 'done', 'done', where);
  if (entry?.phase === 'swapped') assert.equal(generation, 'new', where);
  if (entry?.phase === 'staging') assert.equal(generation, world.before, where);
  assert.deepEqual(world.violations, [], where);
}

const executions: readonly Partial<RestoreExecution>[] = [{}, { discardPrevious: true }];
const kinds: readonly Fault['kind'][] = ['refuse', 'late', 'stuck', 'crash', 'abort'];

for (const hadLive of [true, false]) {
  for (const execution of executions) {
    for (const kind of kinds) {
      const what = `${execution.discardPrevious === true ? 'discarding' : 'keeping'} the previous data, ${hadLive ? 'over live data' : 'on a new machine'}`;
      test(`a restore ${what}: ${kind} at every call`, async () => {
        const calls = await callsOf(execution, hadLive);
        for (const [i, call] of calls.entries()) {
          const where = `${kind} at call ${i + 1} (${call})`;
          const world = new World(hadLive);
          world.fault = { at: i + 1, kind };
          const outcome = await attempt(world, execution);
          requireNothingLost(world, where);
          if (kind !== 'crash') requireHonest(world, outcome, where);
          // A service that does not start is reported, and is the operator's from then on.
          await requireRecovered(world, kind !== 'crash' && /^(start|discover|ready)/.test(call), where);
        }
      });
    }
  }
}

test('what cannot be staged is named with its store, and that nothing has changed', async () => {
  const calls = await callsOf({}, true);
  for (const name of names) {
    const world = new World();
    world.fault = { at: calls.indexOf(`stage ${name}`) + 1, kind: 'refuse' };
    const outcome = await attempt(world, {});
    assert.ok('error' in outcome && world.fault.at > 0, name);
    assert.ok(outcome.error.message.startsWith(`Cannot restore ${name}, and nothing live was changed: `));
  }
});

test('what was staged is discarded at once when a later store cannot be, or differs from what was captured', async () => {
  const calls = await callsOf({}, true);
  for (const failing of ['stage plain', 'verify staged files']) {
    for (const kind of ['refuse', 'late'] as const) {
      const world = new World();
      world.fault = { at: calls.indexOf(failing) + 1, kind };
      // Also after an interruption, on a signal of its own.
      world.alsoAt = { at: calls.indexOf('stage databases') + 1, kind: 'abort' };
      await attempt(world, {});
      const after = world.calls.slice(world.fault.at);
      for (const name of names) {
        // A stage that fails takes its own away.
        if (failing === `stage ${name}`) continue;
        const discarded = after.indexOf(`discard ${name}`);
        const where = `${kind} at ${failing}: ${name} of ${after.join()}`;
        assert.ok(discarded >= 0 && discarded < after.indexOf(`remove staged ${name}`), where);
      }
      assert.deepEqual(world.violations, []);
    }
  }
});

test('an interruption while a store is exchanged exchanges no other', async () => {
  const calls = await callsOf({}, true);
  const swaps = calls.filter((call) => call.startsWith('swap '));
  assert.equal(swaps.length, names.length);
  for (const [index, swap] of swaps.entries()) {
    const world = new World();
    world.fault = { at: calls.indexOf(swap) + 1, kind: 'abort' };
    const outcome = await attempt(world, {});
    if (index < swaps.length - 1) assert.ok('error' in outcome, swap);
    assert.deepEqual(
      world.calls.filter((call) => call.startsWith('swap ')),
      swaps.slice(0, index + 1),
    );
  }
});

/** Killed when every store was exchanged and the journal did not know it yet. */
async function cutOffInSwap(): Promise<World> {
  const calls = await callsOf({}, true);
  const world = new World();
  world.fault = { at: calls.indexOf('journal swapped') + 1, kind: 'crash' };
  await attempt(world, {});
  assert.equal(world.entry?.phase, 'swapping');
  world.newProcess();
  return world;
}

test('a restore that was cut off and whose stores are gone altogether is closed with what is lost, and the next one works', async () => {
  const world = await cutOffInSwap();
  world.removeAll();
  await world.recover();
  assert.equal(world.entry, undefined);
  assert.equal(world.stores.plain.live, 'old', 'what is there is put back');
  for (const name of ['files', 'databases'])
    assert.ok(
      world.warnings.some(
        (text) => text.includes(`The data of ${name} from before`) && text.includes(`${name}-volume`),
      ),
      `${name}: ${world.warnings.join('\n')}`,
    );
  // The containers are created again.
  world.removed.clear();
  await world.restore();
  assert.equal(world.generation(), 'new');
  assert.deepEqual(world.violations, []);
});

test('a store whose previous data is gone keeps no other from being put back, nor the next restore from working', async () => {
  const world = await cutOffInSwap();
  world.withoutPrevious.add('databases');
  await world.recover();
  assert.deepEqual([world.stores.files.live, world.stores.plain.live], ['old', 'old']);
  assert.ok(
    world.warnings.some((text) =>
      /The data of databases from before .* is lost: no previous databases/.test(text),
    ),
  );
  assert.ok(world.warnings.includes('The previous data is back in place, as far as it still exists.'));
  assert.equal(world.entry, undefined);
});

test('a container that is gone while its volume is there is no loss: the record stays until it can be put back', async () => {
  const world = await cutOffInSwap();
  world.removed.add('files');
  const { runtime } = world.target;
  const target = { ...world.target, runtime: { ...runtime, areGone: () => Promise.resolve(false) } };
  // A real component finds no container to put its files back through.
  world.broken = 'undo files';
  await assert.rejects(recoverInterrupted(target, world.journal, world.ctx), { code: 'restore-failed' });
  assert.equal(world.entry?.phase, 'swapping');
  assert.deepEqual(
    world.entry.records.map(({ component }) => component),
    ['files'],
  );
});

const pairs = (['refuse', 'late'] as const).flatMap((first) =>
  (['refuse', 'late', 'stuck', 'crash'] as const).map((second) => [first, second] as const),
);

test('two faults: whatever fails while the previous data is put back', async () => {
  const calls = await callsOf({}, true);
  for (const [first, call] of calls.entries()) {
    for (const [firstKind, kind] of pairs) {
      for (let second = first + 2; ; second++) {
        const world = new World();
        world.fault = { at: first + 1, kind: firstKind };
        world.alsoAt = { at: second, kind };
        const outcome = await attempt(world, {});
        const where = `${firstKind} at ${first + 1} (${call}), ${kind} at ${second} (${world.calls[second - 1] ?? ''})`;
        if (world.calls.length < second) break;
        requireNothingLost(world, where);
        if (kind !== 'crash') requireHonest(world, outcome, where);
        await requireRecovered(world, kind !== 'crash', where);
      }
    }
  }
});

test('a recovery that is cut off or fails itself is finished by the next one', async () => {
  const calls = await callsOf({}, true);
  for (const [first, call] of calls.entries()) {
    for (const kind of ['refuse', 'late', 'stuck', 'crash'] as const) {
      for (let second = 1; ; second++) {
        const world = new World();
        world.fault = { at: first + 1, kind: 'crash' };
        await attempt(world, {});
        world.newProcess();
        world.fault = { at: second, kind };
        await world.recover().catch((error: unknown) => assert.ok(error instanceof TarsError, String(error)));
        const where = `crashed at ${first + 1} (${call}), recovery: ${kind} at ${second} (${world.calls[second - 1] ?? ''})`;
        if (world.calls.length < second) break;
        requireNothingLost(world, where);
        await requireRecovered(world, kind !== 'crash', where);
      }
    }
  }
});

test('the previous data is kept when the comparison finds errors, or none was made', async () => {
  const world = new World();
  world.differs = 'files';
  const { findings, wayBack } = await world.restore({ discardPrevious: true });
  assert.ok(hasErrors(findings));
  assert.deepEqual(
    names.map((name) => world.stores[name].previous),
    ['old', 'old', 'old'],
  );
  assert.deepEqual(
    wayBack,
    names.map((name) => ({ component: name, lines: [`back ${name}`] })),
  );
  const unasked = new World();
  await assert.rejects(
    unasked.restore({ discardPrevious: true, skipValidation: true }),
    /discarded only after/,
  );
  assert.deepEqual(unasked.calls, []);
});

test('what used the stores and did not run before stays down, and is named', async () => {
  const world = new World();
  assert.deepEqual((await world.restore()).notStarted, []);
  const afterDisaster = new World();
  afterDisaster.running.delete('app');
  assert.deepEqual((await afterDisaster.restore()).notStarted, ['app']);
  assert.deepEqual(afterDisaster.down, ['app']);
});

test('a server that something else starts in the middle has its data put back', async () => {
  const world = new World();
  world.supervised = 'files';
  await assert.rejects(
    world.restore(),
    /the previous data was put back: files was started by another program/,
  );
  assert.equal(world.generation(), 'old');
  await requireRecovered(world, false, 'supervised');
});

test('a staging that can never be removed does not stand in the way of the next restore', async () => {
  const world = new World();
  world.fault = { at: 2, kind: 'crash' };
  await attempt(world, {});
  const phase = world.entry?.phase;
  world.newProcess();
  world.fault = { at: 1, kind: 'refuse' };
  await world.recover();
  assert.deepEqual([phase, world.entry?.phase], ['staging', 'staging']);
  world.newProcess();
  await world.restore();
  assert.equal(world.generation(), 'new');
});

test('what is put back is not undone again when another store could not be', async () => {
  const world = new World(false);
  const calls = await callsOf({}, false);
  world.fault = { at: calls.indexOf('swap plain') + 1, kind: 'late' };
  world.broken = 'undo files';
  await assert.rejects(world.restore(), /could not be undone/);
  assert.deepEqual(
    world.entry?.records.map(({ component }) => component),
    ['files'],
  );
});

test('a power cut at any call: recovered although no service runs', async () => {
  const calls = await callsOf({}, true);
  for (const [i, call] of calls.entries()) {
    const world = new World();
    world.fault = { at: i + 1, kind: 'crash' };
    await attempt(world, {});
    world.running.clear();
    await requireRecovered(world, true, `power cut at call ${i + 1} (${call})`);
  }
});

test('services that run again after a put-back are not stopped by the next run', async () => {
  const world = new World();
  world.fault = { at: (await callsOf({}, true)).indexOf('swap plain') + 1, kind: 'late' };
  world.broken = 'journal remove';
  await assert.rejects(world.restore());
  assert.deepEqual(world.down, []);
  world.newProcess();
  world.broken = undefined;
  await world.recover();
  assert.ok(!world.calls.some((call) => call.startsWith('stop')), world.calls.join());
  assert.equal(world.entry, undefined);
});
