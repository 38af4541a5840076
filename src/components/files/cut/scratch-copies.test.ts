import assert from 'node:assert/strict';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ScratchCopies } from './scratch-copies.ts';

const root = mkdtempSync(join(tmpdir(), 'tars-copies-'));
after(() => rmSync(root, { recursive: true, force: true }));
const { signal } = new AbortController();

async function copyOf(
  content: Buffer | number,
  timeMs?: number,
): Promise<{ copies: ScratchCopies; name: string | undefined }> {
  const source = join(root, 'source');
  const clock = { now: () => new Date(), monotonicMs: () => 1000, sleep: () => Promise.resolve() };
  const copies = new ScratchCopies(mkdtempSync(join(root, 'to-')), clock);
  await copies.measureSpace();
  if (typeof content !== 'number') writeFileSync(source, content);
  const descriptor = openSync(source, typeof content === 'number' ? 'w+' : 'r');
  try {
    if (typeof content === 'number') {
      ftruncateSync(descriptor, content);
      writeSync(descriptor, 'data', content / 2);
    }
    const limits = timeMs === undefined ? { signal } : { signal, deadlineMs: 1000 + timeMs };
    return { copies, name: await copies.copy(descriptor, limits) };
  } finally {
    closeSync(descriptor);
  }
}

test('bytes and holes are copied; a file that would take too long is not begun', async () => {
  for (const size of [0, 1, 131_072, 131_073, 5_000_000]) {
    const content = Buffer.alloc(size, 'content');
    const { copies, name } = await copyOf(content);
    assert.ok(name !== undefined && readFileSync(copies.path(name)).equals(content), `${size}`);
  }
  const sparse = await copyOf(40_000_000);
  assert.ok(sparse.name);
  const { size, blocks } = statSync(sparse.copies.path(sparse.name));
  assert.equal(size, 40_000_000);
  assert.ok(blocks * 512 < 1_000_000, `${blocks}`);
  assert.equal(
    readFileSync(sparse.copies.path(sparse.name)).toString('latin1', 20_000_000, 20_000_004),
    'data',
  );

  // As fast as a copy is taken for at first, this needs two thirds of a millisecond.
  const content = Buffer.alloc(100_000, 'content');
  const late = await copyOf(content, 0.5);
  assert.equal(late.name, undefined);
  assert.deepEqual(readdirSync(late.copies.path('.')), []);
  assert.ok((await copyOf(content, 1)).name);
});
