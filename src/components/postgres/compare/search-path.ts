import { z } from 'zod';
import type { DatabaseProperties } from '../facts.ts';
import { identifier } from '../names.ts';
import { splitNameList } from './properties.ts';
import type { Session } from '../connection/session.ts';

/**
 * A path on which functions of the database find what they call by bare names: the database's own settings first,
 * then public, then every other schema. Nothing on it can take the place of what is in pg_catalog.
 */
export async function ownSearchPath(
  session: Session,
  { settings }: DatabaseProperties,
  signal: AbortSignal,
): Promise<string> {
  const rows = await session.rows(
    z.object({ name: z.string() }),
    `SELECT nspname AS name FROM pg_namespace
     WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY nspname COLLATE "C"`,
    signal,
  );
  const present = new Set(rows.map(({ name }) => name));
  const configured = settings
    .filter(({ name }) => name.toLowerCase() === 'search_path')
    .sort((a, b) => Number(a.role !== null) - Number(b.role !== null))
    .flatMap(({ value }) => splitNameList(value));
  const path = new Set([...configured, 'public', ...present]);
  return ['pg_catalog', ...[...path].filter((name) => present.has(name)).map(identifier)].join(', ');
}
