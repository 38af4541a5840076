import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError } from '../../../model/errors.ts';
import { readAs, spellingFor, type FloatReading } from './float-spelling.ts';

/** What Chroma 1.0.0 answered for these texts in a record's metadata. */
const measured: readonly [text: string, stored: number][] = [
  ['72510556107e39', 7.251055610699998e49],
  ['7326884960575020e-25', 7.326884960575018e-10],
  ['7268790e24', 7.268790000000001e30],
  ['7295983649759272201e29', 7.295983649759272e47],
  ['7935560083416085584e-26', 7.935560083416087e-8],
  ['733869603195000676e34', 7.338696031950008e51],
  ['7252972707580973e25', 7.252972707580975e40],
  ['72448873710592913e-30', 7.244887371059292e-14],
];

const parts = (text: string): [bigint, number] => {
  const [mantissa = '', exponent = '0'] = text.replace('-', (sign, at) => (at === 0 ? '' : sign)).split('e');
  const fraction = mantissa.split('.')[1] ?? '';
  return [BigInt(mantissa.replace('.', '')), Number(exponent) - fraction.length];
};

test('the arithmetic of the server is that measured', () => {
  for (const [text, stored] of measured) assert.equal(readAs('serde-twice', ...parts(text)), stored, text);
});

test('a spelled float is stored as the float meant, by each kind of server', () => {
  // Floats such a server holds are those it has stored itself.
  let checked = 0;
  for (let seed = 1; seed <= 20_000; seed++) {
    const significand = BigInt.asUintN(63, BigInt(seed) * 0x9e3779b97f4a7c15n) / 10n ** BigInt(seed % 19);
    if (significand === 0n) continue;
    const exponent = (seed % 601) - 300;
    for (const reading of ['exact', 'serde-once', 'serde-twice'] satisfies FloatReading[]) {
      const held = readAs(reading, significand, exponent);
      if (!Number.isFinite(held) || held === 0) continue;
      const text = spellingFor(reading)(held);
      assert.match(text, /[.e]/, 'it would be read as an integer');
      assert.equal(readAs(reading, ...parts(text)), held, `seed ${seed}, ${reading}: ${held} as ${text}`);
      checked++;
    }
  }
  assert.ok(checked > 50_000);
});

test('signs, zeros and whole numbers stay what they are', () => {
  for (const reading of ['exact', 'serde-once', 'serde-twice'] satisfies FloatReading[]) {
    const spell = spellingFor(reading);
    assert.deepEqual([0, -0, 1, -1, 0.5, 100].map(spell), ['0.0', '-0.0', '1.0', '-1.0', '0.5', '100.0']);
    assert.equal(Number(spell(-1.5e300)), -1.5e300);
    assert.throws(() => spell(Number.NaN), CorruptionError);
    assert.throws(() => spell(Number.NEGATIVE_INFINITY), CorruptionError);
  }
});
