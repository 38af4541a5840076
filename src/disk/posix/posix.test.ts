import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { toTarsError } from '../../model/errors.ts';
import {
  makeNode,
  nextData,
  readExtended,
  removeExtended,
  setExtended,
  setTimes,
  syncFileSystem,
} from './index.ts';

const root = mkdtempSync(join(tmpdir(), 'tars-posix-'));
after(() => rmSync(root, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;

/** A name of bytes that are no UTF-8. */
const bytes = (name: string): Buffer =>
  Buffer.concat([Buffer.from(`${root}/${name}`), Buffer.of(0xff, 0xe9)]);

test('times from 1901 to 2446 are set to the nanosecond, of a link too, whatever bytes its name has', () => {
  const path = bytes('times');
  writeFileSync(path, '');
  symlinkSync('/nowhere', join(root, 'link'));
  for (const ns of [-2_147_483_648_000_000_000n, -1n, 0n, 1n, -999_999_999n, 7_258_118_400_123_456_789n]) {
    for (const at of [path, join(root, 'link')]) {
      setTimes(at, ns, ns);
      assert.equal(lstatSync(at, { bigint: true }).mtimeNs, ns);
    }
  }
});

test('extended attributes of any value come back, sorted; a link is not followed', () => {
  const path = bytes('attributes');
  writeFileSync(path, '');
  assert.deepEqual(readExtended(path), []);
  const wanted = [
    { name: 'user.a', value: new Uint8Array(0) },
    { name: 'user.b\udcff', value: Uint8Array.of(0, 255, 10) },
    { name: 'user.c', value: new Uint8Array(2000).fill(7) },
  ];
  for (const attribute of [...wanted].reverse()) setExtended(path, attribute);
  assert.deepEqual(readExtended(path), wanted);
  removeExtended(path, 'user.c');
  removeExtended(path, 'user.c');
  assert.deepEqual(readExtended(path), wanted.slice(0, 2));
  symlinkSync(path, join(root, 'to-attributes'));
  assert.deepEqual(readExtended(join(root, 'to-attributes')), []);
});

test('data and holes of a sparse file are told apart', () => {
  const file = openSync(join(root, 'sparse'), 'w+');
  try {
    ftruncateSync(file, 10 << 20);
    writeSync(file, Buffer.from('data'), 0, 4, 4 << 20);
    fsyncSync(file);
    const data = nextData(file, 0, 10 << 20);
    assert.equal(data?.start, 4 << 20);
    assert.ok(data.end > data.start && data.end < 5 << 20);
    assert.equal(nextData(file, data.end, 10 << 20), undefined);
    assert.equal(nextData(file, 10 << 20, 10 << 20), undefined);
  } finally {
    closeSync(file);
  }
});

test('pipes, and devices where one may, are created', () => {
  makeNode(join(root, 'pipe'), 'fifo');
  assert.ok(lstatSync(join(root, 'pipe')).isFIFO());
  if (!isRoot) return;
  makeNode(join(root, 'null'), 'character-device', 0x103n);
  assert.equal(
    execFileSync('stat', ['-c', '%t:%T %a', join(root, 'null')], { encoding: 'utf8' }),
    '1:3 600\n',
  );
});

test('a failure is an error of the system with its name; everything is written to the disk', async () => {
  const path = join(root, 'missing');
  for (const fail of [() => setTimes(path, 0n, 0n), () => void readExtended(path)]) {
    assert.throws(fail, { code: 'ENOENT', path });
  }
  try {
    setTimes(path, 0n, 0n);
  } catch (error) {
    assert.equal(toTarsError(error, 'Cannot set the time').code, 'storage-not-found');
  }
  const directory = openSync(root, 'r');
  await syncFileSystem(directory);
  closeSync(directory);
  await assert.rejects(syncFileSystem(-1));
});
