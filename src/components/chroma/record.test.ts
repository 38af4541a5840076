import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeMetadata,
  encodeMetadata,
  metadataOf,
  parseLosslessJson,
  type MetadataScalar,
} from './record.ts';

test('integers beyond 2^53, 1.0 and 1, booleans and negative zero stay apart', () => {
  const text =
    '{"big":9007199254740993,"f":1.0,"i":1,"neg":-0.0,"no":false,"s":"1","tiny":5e-324,"w":1e+300}';
  assert.equal(encodeMetadata(decodeMetadata(text)), text);
  const metadata = decodeMetadata(text);
  assert.equal(metadata.get('big'), 9007199254740993n);
  assert.equal(metadata.get('f'), 1);
  assert.equal(metadata.get('i'), 1n);
  assert.ok(Object.is(metadata.get('neg'), -0));
});

test('any metadata survives its canonical text, whatever the order of its keys', () => {
  const scalar: fc.Arbitrary<MetadataScalar> = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
  );
  const member = fc.tuple(fc.string(), fc.oneof(scalar, fc.array(fc.boolean()), fc.array(fc.bigInt())));
  fc.assert(
    fc.property(fc.uniqueArray(member, { selector: ([key]) => key }), (members) => {
      const text = encodeMetadata(new Map(members));
      assert.equal(encodeMetadata(new Map([...members].reverse())), text);
      assert.equal(encodeMetadata(decodeMetadata(text)), text);
    }),
    { seed: 11 },
  );
});

test('metadata that is no object of scalars is refused', () => {
  for (const text of ['[]', 'null', '1', '{"a":{}}', '{"a":[[1]]}']) {
    assert.throws(() => decodeMetadata(text), SyntaxError, text);
  }
  assert.deepEqual([...metadataOf(parseLosslessJson('{"a":null,"b":2}'))], [['b', 2n]]);
});
