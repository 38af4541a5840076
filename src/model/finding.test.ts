import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toTarsError } from './errors.ts';
import { describeFinding } from './finding.ts';

test('a finding says once what it is about', () => {
  const said = (subject: string, message: string): string =>
    describeFinding({ severity: 'error', code: 'x', subject, message });
  assert.equal(
    said('chroma/t/db/books', 'Collection t/db/books: it is not there'),
    'chroma: Collection t/db/books: it is not there',
  );
  assert.equal(said('postgres/main', 'Table a has 3 rows'), 'postgres/main: Table a has 3 rows');
  assert.equal(said('redis', 'redis has 3 keys'), 'redis: redis has 3 keys');
});

test('each failure of a system call has the hint that helps; a read-only file system needs no other owner', () => {
  const hintOf = (code: string): string | undefined =>
    toTarsError(Object.assign(new Error(code), { code }), 'Cannot write').hint;
  assert.match(hintOf('EROFS') ?? '', /mounted read-only.*mount -o remount,rw/);
  assert.doesNotMatch(hintOf('EROFS') ?? '', /owner/);
  const said: [string, RegExp][] = [
    ['ENOSPC', /Free space/],
    ['EDQUOT', /quota/],
    ['EMFILE', /ulimit -n/],
    ['ENFILE', /fs\.file-max/],
    ['ENAMETOOLONG', /255 bytes/],
    ['ELOOP', /Symbolic links/],
    ['EIO', /dmesg.*smartctl/],
    ['ESTALE', /mount it again/],
    ['ENODEV', /mount it again/],
    ['ENOTDIR', /is a file/],
  ];
  for (const [code, hint] of said) assert.match(hintOf(code) ?? '', hint, code);
  assert.match(hintOf('EACCES') ?? '', /owner and mode/);
});
