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

test('a file system that is read-only needs no other owner', () => {
  const hintOf = (code: string): string | undefined =>
    toTarsError(Object.assign(new Error(code), { code }), 'Cannot write').hint;
  assert.match(hintOf('EROFS') ?? '', /mounted read-only/);
  assert.match(hintOf('EACCES') ?? '', /owner and mode/);
});
