import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing } from '../../../disk/is-there.ts';
import { homeDirectory } from '../../../disk/home.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import { addressOf, type PostgresOptions } from './options.ts';

/**
 * The password that libpq's password file has for a connection (PostgreSQL manual, "The Password File"); empty where
 * it has none.
 * @throws TarsError `access-denied` for a file that others may read, which libpq does not use either
 */
export async function passwordFromFile(options: PostgresOptions, database: string): Promise<string> {
  const home = homeDirectory(process.env);
  const path = process.env['PGPASSFILE'] ?? (home && join(home, '.pgpass'));
  const text = path === undefined || path === '' ? undefined : await readIfThere(path, options);
  const wanted = [options.host, String(options.port), database, options.user];
  for (const line of text?.split(/\r?\n/) ?? []) {
    const fields = line.startsWith('#') ? [] : fieldsOf(line);
    const matches = wanted.every((value, position) => ['*', value].includes(fields[position] ?? ''));
    if (matches && fields.length > wanted.length) return fields[wanted.length] ?? '';
  }
  return '';
}

async function readIfThere(path: string, options: PostgresOptions): Promise<string | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY);
    const stats = await file.stat();
    if (!stats.isFile()) return undefined;
    if ((stats.mode & 0o077) === 0) return await file.readFile('utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw toTarsError(error, `Cannot read ${path}`);
  }
  const where = `PostgreSQL at ${addressOf(options)} requires a password for user ${options.user}`;
  throw new TarsError('access-denied', `${where}, and ${path} is not used, because others may read it`, {
    hint: `Run chmod 600 ${path}, or set a password for the component in tars.yaml.`,
  });
}

/** Colons end a field, unless a backslash comes before; a backslash takes the next character as it is. */
function fieldsOf(line: string): string[] {
  const fields = [''];
  for (const [token] of line.matchAll(/\\.|[^]/gu)) {
    if (token === ':') fields.push('');
    else
      fields.push(
        `${fields.pop() ?? ''}${token.length > 1 && token.startsWith('\\') ? token.slice(1) : token}`,
      );
  }
  return fields;
}
