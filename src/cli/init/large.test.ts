import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FoundPlace, StackInventory } from '../../ports/inventory.ts';
import { askAboutLarge } from './large.ts';

const gib = 2 ** 30;

const place = (name: string, sizeBytes: number | undefined): FoundPlace => ({
  ...{ name, service: name, inside: '/data', type: 'volume', source: name, path: `/v/${name}` },
  ...{ sizeBytes, others: [], writers: [name], exclude: [] },
});

async function asked(
  places: readonly FoundPlace[],
  answer: boolean,
  seenThrough: StackInventory['seenThrough'] = 'containers',
): Promise<{ readonly asked: readonly string[]; readonly inventory: StackInventory }> {
  const questions: string[] = [];
  const inventory = await askAboutLarge(
    { places, leftOut: [], seenThrough } as unknown as StackInventory,
    {
      confirm(question) {
        questions.push(question);
        return Promise.resolve(answer);
      },
    },
    new AbortController().signal,
  );
  return { asked: questions, inventory };
}

test('only what is large, or much larger than the rest, is asked about', async () => {
  const small = [place('a', 100 << 20), place('b', 1 << 20)];
  assert.deepEqual((await asked(small, false)).asked, []);
  const { asked: one } = await asked([place('a', 11 * gib), place('b', 9 * gib)], true);
  assert.deepEqual(one, ['a:/data holds 11.0 GiB. Do you want to back it up?']);
  const { asked: other } = await asked([place('a', 6 * gib), place('b', gib)], true);
  assert.deepEqual(other, ['a:/data holds 6.00 GiB. Do you want to back it up?']);
  assert.deepEqual((await asked([place('a', 5 * gib), place('b', gib)], true)).asked, []);
  const unknown = [place('a', undefined), place('b', gib)];
  assert.deepEqual((await asked(unknown, true)).asked, [
    'a:/data holds very many files. Do you want to back it up?',
  ]);
  assert.deepEqual((await asked(unknown, true, 'files')).asked, []);
});

test('a no stands in leave_out', async () => {
  const places = [place('a', 11 * gib), place('b', 1)];
  assert.deepEqual((await asked(places, true)).inventory.places, places);
  const { inventory } = await asked(places, false);
  assert.deepEqual(inventory.places, places.slice(1));
  assert.deepEqual(
    inventory.leftOut.map(({ service, destination, reason }) => [service, destination, reason]),
    [['a', '/data', 'large, and left out on request']],
  );
});
