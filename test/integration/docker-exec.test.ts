import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { TarsError } from '../../src/model/errors.ts';
import type { Bytes } from '../../src/ports/artifacts.ts';
import type { ProgramRunner } from '../../src/ports/programs.ts';
import { connectEngine } from '../../src/runtimes/docker/engine/engine.ts';
import { containerRunner } from '../../src/runtimes/docker/engine/exec.ts';
import { dockerForTests } from '../fixtures/docker/engine.ts';
import { eventually } from '../fixtures/processes.ts';

const docker = await dockerForTests();
const { skip } = docker;
const { signal } = new AbortController();

interface Bench extends AsyncDisposable {
  readonly runner: ProgramRunner;
  /** Command lines of the container's processes beside its own. */
  programs(): Promise<string[]>;
}

async function startBench(): Promise<Bench> {
  const name = `vx-exec-${randomBytes(4).toString('hex')}`;
  const run = ['run', '--detach', '--rm', '--name', name, '--entrypoint', 'sleep'];
  const id = await docker.engine.docker([...run, 'redis:7-tars-test', '3600']);
  return {
    runner: containerRunner(await connectEngine({ host: docker.engine.host }), id),
    programs: async () => {
      const listed = await docker.engine.docker(['top', name, '-eo', 'pid,args']);
      return listed
        .split('\n')
        .slice(1)
        .filter((line) => !line.endsWith('sleep 3600'));
    },
    [Symbol.asyncDispose]: async () => {
      await docker.engine.docker(['rm', '--force', name]);
    },
  };
}

const shell = (script: string, environment = {}): { path: string; args: string[]; environment: object } => ({
  ...{ path: 'sh', args: ['-c', script] },
  environment,
});
type Call = Parameters<ProgramRunner['output']>[0];

async function textOf(bytes: Bytes): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('programs in a container', { skip }, async (t) => {
  await using bench = await startBench();
  const { runner } = bench;
  const output = (script: string, environment = {}): Bytes =>
    runner.output(shell(script, environment) as Call, signal);
  const gone = (): Promise<void> =>
    eventually('The program has ended', async () => (await bench.programs()).length === 0);

  await t.test('give their output, environment and end', async () => {
    assert.equal(await textOf(output('printf %s "$WORD"; echo aside >&2', { WORD: 'a b' })), 'a b');
    await assert.rejects(textOf(output('echo half; echo "no space" >&2; exit 3')), /sh failed .*no space/);
    await assert.rejects(textOf(output('kill -9 $$')), /sh failed in the container: exit code 137/);
    await assert.rejects(
      textOf(runner.output({ path: 'no-such-program', args: [], environment: {} }, signal)),
      TarsError,
    );
  });

  await t.test('left early or interrupted are ended, also before they wrote anything', async () => {
    for await (const _ of output('exec cat /dev/zero')) break;
    await gone();
    for (const script of ['echo begun; exec sleep 1000', 'exec sleep 1000']) {
      const stopping = new AbortController();
      const reading = textOf(runner.output(shell(script) as Call, stopping.signal));
      await eventually('It runs', async () => (await bench.programs()).some((line) => /1000/.test(line)));
      stopping.abort();
      await assert.rejects(reading, { code: 'interrupted' });
      await gone();
    }
    const stopping = new AbortController();
    const reading = textOf(runner.output(shell('exec sleep 1001') as Call, stopping.signal));
    setImmediate(() => stopping.abort());
    await assert.rejects(reading, { code: 'interrupted' });
    await gone();
  });

  await t.test('write no faster than they are read', async () => {
    const sizeBytes = 128 << 20;
    const reading = output(`exec head -c ${sizeBytes} /dev/zero`)[Symbol.asyncIterator]();
    const first = await reading.next();
    let readBytes = first.done === true ? 0 : first.value.length;
    const written = async (): Promise<number> => {
      const io = await textOf(output('cat /proc/$(pidof head)/io'));
      return Number(/wchar: (\d+)/.exec(io)?.[1]);
    };
    let [before, now] = [-1, await written()];
    await eventually('It waits', async () => {
      [before, now] = [now, await written()];
      return before === now;
    });
    assert.ok(now < 64 << 20, `${now} bytes`);
    for (let next = await reading.next(); next.done !== true; next = await reading.next())
      readBytes += next.value.length;
    assert.equal(readBytes, sizeBytes);
  });
});

const pieces = 64;
async function* input(consumed: { pieces: number }): Bytes {
  while (consumed.pieces < pieces) {
    await new Promise(setImmediate);
    consumed.pieces++;
    yield Buffer.alloc(1 << 20, 'x');
  }
}

test('programs in a container that read an input', { skip }, async (t) => {
  await using bench = await startBench();
  const { runner } = bench;
  const feed = (script: string, bytes: Bytes, stop: AbortSignal = signal): Promise<void> =>
    runner.feed(shell(script) as Call, bytes, stop);

  await t.test('get all of a large one', async () => {
    const consumed = { pieces: 0 };
    await feed(`[ "$(wc -c)" = ${pieces << 20} ]`, input(consumed));
    await assert.rejects(feed('[ "$(wc -c)" = 1 ]', input({ pieces: 0 })), /exit code 1/);
  });

  await t.test('need not read it to the end, where it checks itself all the same', async () => {
    for (const script of ['exit 0', 'head -c 100000 >/dev/null', 'exec <&-; exec true']) {
      const consumed = { pieces: 0 };
      await feed(script, input(consumed));
      assert.equal(consumed.pieces, pieces, script);
    }
    const failing = async function* (): Bytes {
      yield* input({ pieces: 0 });
      throw new TarsError('corruption', 'Not what the manifest says');
    };
    await assert.rejects(feed('exit 0', failing()), /Not what the manifest says/);
  });

  await t.test('fail with their own message, and with that of an input that fails', async () => {
    const consumed = { pieces: 0 };
    await assert.rejects(feed('echo "no space left" >&2; exit 3', input(consumed)), /no space left/);
    assert.ok(consumed.pieces < pieces, `${consumed.pieces} pieces`);
    const failing = async function* (): Bytes {
      yield Buffer.from('something');
      await new Promise(setImmediate);
      throw new TarsError('corruption', 'A blob is damaged');
    };
    await assert.rejects(feed('exec cat >/dev/null', failing()), /A blob is damaged/);
    await eventually('The program has ended', async () => (await bench.programs()).length === 0);
  });

  await t.test('are ended when interrupted, and the input is closed', async () => {
    const stopping = new AbortController();
    let closed = false;
    const endless = async function* (): Bytes {
      try {
        for (;;) yield await Promise.resolve(Buffer.alloc(1 << 16));
      } finally {
        closed = true;
      }
    };
    const feeding = feed('exec sleep 1002', endless(), stopping.signal);
    await eventually('It runs', async () => (await bench.programs()).some((line) => /1002/.test(line)));
    stopping.abort();
    await assert.rejects(feeding, { code: 'interrupted' });
    await eventually('The program has ended', async () => (await bench.programs()).length === 0);
    await eventually('The input is closed', () => Promise.resolve(closed));
  });
});
