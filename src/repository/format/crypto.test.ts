import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError } from '../../model/errors.ts';
import { SealingKey, sealOverheadBytes } from './crypto.ts';
import { encodeKeyFile, openKeyFile } from './key-file.ts';

/** From restic's `internal/repository/crypto/crypto_int_test.go`. */
const vector = {
  key: new SealingKey({
    encrypt: Buffer.from('303e8687b1d7db18421bdc6bb8588ccadac4d59ee87b8ff70c44e635790cafef', 'hex'),
    macK: Buffer.from('ef4d8824cb80b2bcc5fbff8a9b12a42c', 'hex'),
    macR: Buffer.from('cc8d4b948ee0ebfe1d415de921d10353', 'hex'),
  }),
  sealed: Buffer.from(
    '69fb41c62d12def4593bd71757138606338f621aeaeb39da0fe4f99233f8037a54ea63338a813bcf3f75d8c3cc75dddf8750',
    'hex',
  ),
  plaintext: 'Dies ist ein Test!',
};

test("opens restic's vector", () => {
  assert.equal(vector.key.open(vector.sealed, 'the vector').toString(), vector.plaintext);
});

test('every flipped bit is noticed', () => {
  for (let bit = 0; bit < vector.sealed.length * 8; bit++) {
    const damaged = Buffer.from(vector.sealed);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => vector.key.open(damaged, 'the vector'), CorruptionError, `bit ${bit}`);
  }
});

test('every truncation is noticed', () => {
  for (let length = 0; length < vector.sealed.length; length++) {
    assert.equal(vector.key.tryOpen(vector.sealed.subarray(0, length)), undefined, `${length} bytes`);
  }
});

test('seals what it opens, each time differently', () => {
  const key = SealingKey.generate();
  for (const length of [0, 1, 15, 16, 17, 65_537]) {
    const plaintext = Buffer.alloc(length, 7);
    const sealed = key.seal(plaintext);
    assert.equal(sealed.length, length + sealOverheadBytes);
    assert.deepEqual(key.open(sealed, 'it'), plaintext);
    assert.notDeepEqual(key.seal(plaintext), sealed);
  }
});

test('a key of zeros is refused', () => {
  const { encrypt, macK, macR } = SealingKey.generate().material;
  assert.throws(() => new SealingKey({ encrypt: new Uint8Array(32), macK, macR }), CorruptionError);
  assert.throws(() => new SealingKey({ encrypt, macK: new Uint8Array(16), macR }), CorruptionError);
  assert.throws(() => new SealingKey({ encrypt, macK, macR: new Uint8Array(16) }), CorruptionError);
});

test('a key file opens with its password only', async () => {
  const master = SealingKey.generate();
  const origin = { createdNs: 1_700_000_000_123_000_000n, hostname: 'box', username: 'tars' };
  const file = await encodeKeyFile(master, 'correct', origin);
  const opened = await openKeyFile(file, 'correct', 'k');
  assert.deepEqual(opened?.material, { ...master.material });
  assert.equal(await openKeyFile(file, 'wrong', 'k'), undefined);
  await assert.rejects(openKeyFile(file.subarray(1), 'correct', 'k'), CorruptionError);
});

test('a key file whose parameters are impossible, or cost absurd memory or time, is refused at once', async () => {
  const costs = [
    { N: 2 ** 30, r: 8, p: 1 },
    { N: 2 ** 20, r: 8, p: 1 },
    { N: 2, r: 2 ** 24, p: 1 },
    { N: 2, r: 8, p: 2 ** 30 },
    { N: 2 ** 15, r: 8, p: 2 ** 10 },
    { N: 2 ** 53, r: 2 ** 53, p: 2 ** 53 },
    { N: 3, r: 8, p: 1 },
    { N: 1, r: 8, p: 1 },
  ];
  for (const cost of costs) {
    const file = Buffer.from(JSON.stringify({ kdf: 'scrypt', ...cost, salt: '', data: '' }));
    const before = process.resourceUsage().maxRSS;
    await assert.rejects(openKeyFile(file, 'x', 'k'), CorruptionError, JSON.stringify(cost));
    assert.ok(process.resourceUsage().maxRSS - before < 100 << 10, JSON.stringify(cost));
  }
});
