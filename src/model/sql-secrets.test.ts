import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hideSqlSecrets } from './sql-secrets.ts';

const statements: readonly (readonly [sql: string, shown: string])[] = [
  ["ALTER ROLE app WITH PASSWORD 'a''b';", "ALTER ROLE app WITH PASSWORD '***';"],
  ["Command was: ALTER ROLE app PASSWORD E'a\\'b';", "Command was: ALTER ROLE app PASSWORD '***';"],
  ['CREATE ROLE a LOGIN PASSWORD $$x y$$ NOINHERIT', "CREATE ROLE a LOGIN PASSWORD '***' NOINHERIT"],
  ['CREATE ROLE a PASSWORD $t$x$t$', "CREATE ROLE a PASSWORD '***'"],
  ["CREATE USER 'a'@'%' IDENTIFIED BY 'x\\'y'", "CREATE USER 'a'@'%' IDENTIFIED BY '***'"],
  ["ALTER DATABASE d SET app.jwt_secret TO 'x'", "ALTER DATABASE d SET app.jwt_secret TO '***'"],
  ["ALTER ROLE r IN DATABASE d SET app.api_key = 'x'", "ALTER ROLE r IN DATABASE d SET app.api_key = '***'"],
  ["ALTER DATABASE d SET search_path TO 'public'", "ALTER DATABASE d SET search_path TO 'public'"],
  ["OPTIONS (user 'remote', password 'x')", "OPTIONS (user 'remote', password '***')"],
  [
    "INSERT INTO u (name, password, n) VALUES ('a', 'x,(y', 1), ('b', md5('z'), 2); SELECT 1",
    "INSERT INTO u (name, password, n) VALUES ('a', '***', 1), ('b', '***', 2); SELECT 1",
  ],
  [
    'COPY u (id, token) FROM stdin;\n1\tx\n2\t\\N\n\\.\nSELECT 2',
    "COPY u (id, token) FROM stdin;\n1\t'***'\n2\t\\N\n\\.\nSELECT 2",
  ],
  ["COMMENT ON COLUMN u.password IS 'hashed'", "COMMENT ON COLUMN u.password IS 'hashed'"],
  ['pg_restore: error: could not execute query', 'pg_restore: error: could not execute query'],
];

test('passwords and secret values of statements are hidden, and the statements stay readable', () => {
  for (const [sql, shown] of statements) assert.equal(hideSqlSecrets(sql), shown);
});
