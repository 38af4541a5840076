import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHashes } from './volume-listing.ts';

const hash = 'a'.repeat(64);

test('hashes as GNU and BusyBox print them, also of odd names; none where nobody can tell', () => {
  assert.equal(parseHashes(''), undefined);
  assert.deepEqual(parseHashes('hashes\n'), new Map());
  const lines = [`${hash}  ./new/a b`, `${hash} *./new/binary`, String.raw`\${hash}  ./new/a\\b\nc`];
  const text = ['hashes', ...lines, ''].join('\n').replace('${hash}', hash);
  assert.deepEqual(
    parseHashes(text),
    new Map([
      ['new/a b', hash],
      ['new/binary', hash],
      ['new/a\\b\nc', hash],
    ]),
  );
  assert.throws(() => parseHashes('hashes\nsha256sum: something\n'), { code: 'subprocess' });
});
