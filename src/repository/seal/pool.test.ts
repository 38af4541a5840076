import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SealingKey } from '../format/crypto.ts';
import { SealPool } from './pool.ts';

const workers = 2;

const createPool = (): SealPool =>
  new SealPool({
    ...{ key: SealingKey.generate().material, compressionLevel: 0, workers },
    decide: (ids) => new Uint8Array(ids.length / 32).fill(1),
    store: () => Promise.resolve(),
  });

test('there are as many slots as keep all workers busy, and the next one waits for one that is free', async () => {
  await using pool = createPool();
  const slots = await Promise.all(Array.from({ length: 2 * workers + 1 }, () => pool.acquireSlot()));
  assert.equal(new Set(slots.map(({ buffer }) => buffer)).size, slots.length);
  const [first] = slots;
  assert.ok(first !== undefined);
  let isWaiting = true;
  const next = pool.acquireSlot().then((slot) => {
    isWaiting = false;
    return slot;
  });
  await new Promise(setImmediate);
  assert.ok(isWaiting);
  pool.releaseSlot(first);
  assert.equal(await next, first);
});

test('a slot that a worker has sealed is used again', async () => {
  await using pool = createPool();
  const used = new Set<SharedArrayBuffer>();
  for (let batch = 0; batch < 20; batch++) {
    const slot = await pool.acquireSlot();
    used.add(slot.buffer);
    slot.bytes.fill(batch, 0, 1000);
    await pool.submit(slot, [1000], false);
  }
  await pool.flush();
  assert.ok(used.size <= 2 * workers + 1, `${used.size} slots`);
});
