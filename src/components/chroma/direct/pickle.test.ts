import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CorruptionError } from '../../../model/errors.ts';
import type { IdBytes } from './id-table.ts';
import { parseIdMap, type IdMap } from './pickle.ts';

const parsed = (bytes: Buffer): IdMap => {
  const source: IdBytes = {
    sizeBytes: bytes.length,
    read: (into, offset) => bytes.copy(into, 0, offset),
  };
  return parseIdMap(source, 'x');
};

// Written by CPython 3.11 from a PersistentData object: ids 'a', 'ü\n' and 'c' with labels 1, 2 and 70000.
const byPython = {
  'protocol 2':
    'gAJjY2hyb21hZGIuc2VnbWVudC5pbXBsLnZlY3Rvci5sb2NhbF9wZXJzaXN0ZW50X2huc3cKUGVyc2lzdGVudERhdGEKcQApgXEBfXECKFgOAAAAZGltZW5zaW9uYWxpdHlxA0sDWBQAAAB0b3RhbF9lbGVtZW50c19hZGRlZHEESwNYCgAAAG1heF9zZXFfaWRxBYoGAAAAAAABWAsAAABpZF90b19sYWJlbHEGfXEHKFgBAAAAYXEISwFYAwAAAMO8CnEJSwJYAQAAAGNxCkpwEQEAdVgLAAAAbGFiZWxfdG9faWRxC31xDChLAWgISwJoCUpwEQEAaAp1WAwAAABpZF90b19zZXFfaWRxDX1xDmgISwVzdWIu',
  'protocol 4':
    'gASV8gAAAAAAAACMMmNocm9tYWRiLnNlZ21lbnQuaW1wbC52ZWN0b3IubG9jYWxfcGVyc2lzdGVudF9obnN3lIwOUGVyc2lzdGVudERhdGGUk5QpgZR9lCiMDmRpbWVuc2lvbmFsaXR5lEsDjBR0b3RhbF9lbGVtZW50c19hZGRlZJRLA4wKbWF4X3NlcV9pZJSKBgAAAAAAAYwLaWRfdG9fbGFiZWyUfZQojAFhlEsBjAPDvAqUSwKMAWOUSnARAQB1jAtsYWJlbF90b19pZJR9lChLAWgKSwJoC0pwEQEAaAx1jAxpZF90b19zZXFfaWSUfZRoCksFc3ViLg==',
};

// The same writer, with an object whose __reduce__ returns (os.system, ('touch /tmp/owned',)).
const malicious = {
  'protocol 2':
    'gAJ9cQAoWBQAAAB0b3RhbF9lbGVtZW50c19hZGRlZHEBSwFYCwAAAGlkX3RvX2xhYmVscQJjcG9zaXgKc3lzdGVtCnEDWBAAAAB0b3VjaCAvdG1wL293bmVkcQSFcQVScQZ1Lg==',
  'protocol 4':
    'gASVVgAAAAAAAAB9lCiMFHRvdGFsX2VsZW1lbnRzX2FkZGVklEsBjAtpZF90b19sYWJlbJSMBXBvc2l4lIwGc3lzdGVtlJOUjBB0b3VjaCAvdG1wL293bmVklIWUUpR1Lg==',
};

for (const [protocol, base64] of Object.entries(byPython)) {
  const bytes = Buffer.from(base64, 'base64');

  test(`reads what Python servers pickle, ${protocol}`, () => {
    const map = parsed(bytes);
    assert.equal(map.dimensionality, 3);
    assert.equal(map.totalElementsAdded, 3);
    assert.equal(map.maxSeqId, 2n ** 40n);
    assert.deepEqual(
      [...map.labels.entries()],
      [
        ['a', 1],
        ['ü\n', 2],
        ['c', 70_000],
      ],
    );
  });

  test(`notices a cut at every byte, ${protocol}`, () => {
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => parsed(bytes.subarray(0, length)), CorruptionError, `${length} bytes`);
    }
  });

  test(`never fails otherwise than by CorruptionError when a byte is wrong, ${protocol}`, () => {
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes);
      damaged[at] = damaged[at]! ^ 0xa5;
      try {
        parsed(damaged);
      } catch (error) {
        assert.ok(error instanceof CorruptionError, `byte ${at}: ${String(error)}`);
      }
    }
  });
}

for (const [protocol, base64] of Object.entries(malicious)) {
  test(`refuses a pickle that would run a command, ${protocol}`, () => {
    assert.throws(
      () => parsed(Buffer.from(base64, 'base64')),
      (error) =>
        error instanceof CorruptionError && /"posix system", which is not allowed/.test(error.message),
    );
  });
}

test('refuses an opcode that builds or calls anything else', () => {
  for (const opcode of ['R', 'i', 'o', 'P', 'Q', '\x82', '\x92']) {
    assert.throws(() => parsed(Buffer.from(`\x80\x02}${opcode}.`, 'latin1')), CorruptionError);
  }
});
