import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { feedProgram, type Program } from '../../src/components/postgres/connection/programs.ts';
import { TarsError } from '../../src/model/errors.ts';
import type { Bytes } from '../../src/ports/artifacts.ts';

const { signal } = new AbortController();

function program(script: string): Program {
  const options = {
    name: 'postgres',
    service: undefined,
    host: '127.0.0.1',
    port: 5432,
    user: 'nobody',
    password: undefined,
    databases: undefined,
    scratchDir: tmpdir(),
  };
  return { path: '/bin/sh', args: ['-c', script], options };
}

/** Far more than a pipe holds. */
const pieces = 64;
async function* input(consumed: { pieces: number }): Bytes {
  while (consumed.pieces < pieces) {
    await new Promise(setImmediate);
    consumed.pieces++;
    yield Buffer.alloc(64 * 1024);
  }
}

test('a program that succeeds without the rest of its input has succeeded, and the rest is read all the same', async () => {
  for (const script of ['exit 0', 'head -c 100000 >/dev/null', 'exec <&-; exec true']) {
    const consumed = { pieces: 0 };
    await feedProgram(program(script), input(consumed), signal);
    assert.equal(consumed.pieces, pieces, script);
  }
});

test('what is wrong with the unread rest of an input is an error', async () => {
  const failing = async function* (): Bytes {
    yield* input({ pieces: 0 });
    throw new TarsError('corruption', 'Not what the manifest says');
  };
  await assert.rejects(feedProgram(program('exit 0'), failing(), signal), /Not what the manifest says/);
});

test('a program that fails is reported with what it said, and its input is not read on', async () => {
  const consumed = { pieces: 0 };
  const feeding = feedProgram(program('echo "no space left" >&2; exit 3'), input(consumed), signal);
  await assert.rejects(feeding, /\/bin\/sh failed: no space left/);
  assert.ok(consumed.pieces < pieces, `${consumed.pieces} pieces`);
});

test("programs start with the database's own search_path, which scripts of extensions go on from", async () => {
  const feeding = feedProgram(program('echo "$PGOPTIONS" >&2; exit 3'), input({ pieces: pieces }), signal);
  await assert.rejects(feeding, (error: Error) => {
    assert.match(error.message, /role=none/);
    assert.doesNotMatch(error.message, /search_path/);
    return true;
  });
});
