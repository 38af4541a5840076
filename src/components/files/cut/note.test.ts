import assert from 'node:assert/strict';
import { lstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DeltaWriter, markedEntries } from './delta.ts';
import { LineWriter, readLines } from './lines.ts';
import type { MarkedFile } from './marked.ts';
import { isProven, keyOf, noteLine, NoteReader } from './note.ts';

const root = mkdtempSync(join(tmpdir(), 'tars-note-'));
after(() => rmSync(root, { recursive: true, force: true }));
writeFileSync(join(root, 'file'), 'content');
const stats = lstatSync(join(root, 'file'), { bigint: true });

test('a time stamp proves nothing within two seconds of the look, nor one of the future', () => {
  const second = 1_000_000_000n;
  const now = 100n * second;
  const at = (mtimeNs: bigint, ctimeNs: bigint): boolean => isProven({ mtimeNs, ctimeNs }, now);
  assert.ok(at(97n * second, 97n * second));
  assert.ok(!at(97n * second, 98n * second));
  assert.ok(!at(98n * second, 97n * second));
  assert.ok(!at(97n * second, 101n * second), 'a clock that is wrong');
  assert.ok(at(101n * second, 97n * second), 'a time that somebody set, long ago');
});

/** Of any bytes: JSON has to keep them apart from what ends a path or a line. */
const names = ['', 'a', 'a\nb\tc', 'a "b" \\', 'b', 'b/ü', 'b/\udcff', 'z'];
const file = (path: string): MarkedFile => ({
  ...{ type: 'file', path, attributes: { mode: 0o600, uid: 1, gid: 2, mtimeNs: -5n } },
  identity: { sizeBytes: 7, mtimeNs: -5n, ctimeNs: 1n << 62n, inode: 1n, deviceId: 2n, links: 1 },
  diskBytes: 512,
  body: {
    from: 'destination',
    stored: { sizeBytes: 7, sha256: 'a'.repeat(64), token: Buffer.from([0, 255, 10, 9]) },
  },
});

test('what a walk noted is compared with the next walk, and what is different is put into its place', () => {
  const [notePath, deltaPath] = [join(root, 'note'), join(root, 'delta')];
  {
    using note = new LineWriter(notePath);
    for (const path of names) note.write(noteLine(keyOf({ path, stats }), file(path)));
    note.write(noteLine(keyOf({ path: 'zz', stats })));
    note.flush();
  }
  assert.equal([...readLines(notePath)].length, names.length + 1);
  {
    using note = new NoteReader(notePath);
    using lines = new LineWriter(deltaPath);
    const delta = new DeltaWriter(lines);
    for (const path of ['', 'a', 'a\nb\tc', 'aa', 'b', 'b/\udcff', 'z', 'zz']) {
      const key = keyOf({ path, stats: path === 'b' ? { ...stats, ctimeNs: 1n } : stats });
      if (!note.isSame(key)) delta.drop(note.skipTo(path));
      if (note.isSame(key)) delta.same();
      else {
        if (note.isAt(path)) delta.drop(1);
        delta.put({ ...file(path), diskBytes: 1 });
      }
      if (note.isAt(path)) note.next();
    }
    delta.finish();
  }
  const found = [...markedEntries(notePath, deltaPath)].map((entry) => [
    entry.path,
    (entry as MarkedFile).diskBytes,
  ]);
  assert.deepEqual(found, [
    ...[
      ['', 512],
      ['a', 512],
      ['a\nb\tc', 512],
      ['aa', 1],
      ['b', 1],
      ['b/\udcff', 512],
      ['z', 512],
    ],
    // What proved nothing is never the same.
    ['zz', 1],
  ]);
  assert.deepEqual(markedEntries(notePath, deltaPath).next().value, {
    ...file(''),
    body: {
      from: 'destination',
      stored: { sizeBytes: 7, sha256: 'a'.repeat(64), token: new Uint8Array([0, 255, 10, 9]) },
    },
  });
});
