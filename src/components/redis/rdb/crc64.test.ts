import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Crc64 } from './crc64.ts';

const lorem =
  'This is a test of the emergency broadcast system. Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua.';

/** Bit by bit, straight from the definition. */
function slow(bytes: Uint8Array): bigint {
  let crc = 0n;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ 0x95ac9329ac4bc9b5n : crc >> 1n;
  }
  return crc;
}

function crc(...parts: Uint8Array[]): bigint {
  const running = new Crc64();
  for (const part of parts) running.update(part);
  return running.value;
}

test('CRC-64 of the check string is the published one', () => {
  assert.equal(crc(Buffer.from('123456789')), 0xe9c6d914c4b8d9can);
});

test('CRC-64 agrees with the definition at every length, offset and split', () => {
  const bytes = Buffer.from(lorem);
  for (let length = 0; length <= bytes.length; length++) {
    const expected = slow(bytes.subarray(0, length));
    assert.equal(crc(bytes.subarray(0, length)), expected);
    const cut = (length * 7) % (length + 1);
    assert.equal(crc(bytes.subarray(0, cut), bytes.subarray(cut, length)), expected, `cut at ${cut}`);
  }
});
