import { z } from 'zod';
import type { SchemaFacts, SchemaKind } from '../facts.ts';
import { definitions } from './schema-definitions.ts';
import type { Session } from '../connection/session.ts';

/** Up to this many objects are listed by name; of more there is one hash per kind. */
const listedObjectsMax = 50_000;

const listedSchema = z.object({
  kind: z.string(),
  name: z.string(),
  definition: z.string(),
  access: z.string().nullable(),
});

/**
 * Reads what the database's schemas hold, in the session's transaction: everything pg_dump would dump the definition
 * of. Objects of extensions are not among it, nor what the server makes by itself for another object (the index of a
 * constraint, the row type of a table).
 * @param like facts this is to be compared with: it is listed or summed up as they are
 */
export async function readSchema(
  session: Session,
  like: SchemaFacts | undefined,
  signal: AbortSignal,
): Promise<SchemaFacts> {
  return readObjects(session, objectsQuery, like, signal);
}

/**
 * Lists what a query finds, or sums it up.
 * @param query of a major version, with the columns `kind, name, definition, access`
 * @param like facts this is to be compared with: it is listed or summed up as they are
 */
export async function readObjects(
  session: Session,
  query: (major: number) => string,
  like: SchemaFacts | undefined,
  signal: AbortSignal,
): Promise<SchemaFacts> {
  const { major } = await session.row(
    z.object({ major: z.coerce.number() }),
    `SELECT current_setting('server_version_num')::int / 10000 AS major`,
    signal,
  );
  const objects = query(major);
  if (like === undefined || 'listed' in like) {
    const limit = like === undefined ? `LIMIT ${listedObjectsMax + 1}` : '';
    const listed = await session.rows(listedSchema, `${objects} ORDER BY kind, name ${limit}`, signal);
    if (limit === '' || listed.length <= listedObjectsMax)
      return { serverMajor: major, listed: byKind(listed) };
  }
  const summed = await session.rows(
    z.object({ kind: z.string(), count: z.coerce.number(), hash: z.string() }),
    `SELECT kind, count(*)::text AS count,
       sum(hashtextextended(ROW(name, definition, access)::text COLLATE "C", 0)::numeric)::text AS hash
     FROM (${objects}) o GROUP BY kind ORDER BY kind`,
    signal,
  );
  return { serverMajor: major, summed };
}

/** Rows of kind, name, and hashes of the definition and of owner with grants. Some have nothing to be defined. */
function objectsQuery(major: number): string {
  return `SELECT translate(i.type, ' ', '-') COLLATE "C" AS kind,
      (i.identity || coalesce(' on ' || (pg_identify_object('pg_class'::regclass, o.onrelid, 0)).identity, ''))
        COLLATE "C" AS name,
      ${hashOf(`coalesce(o.definition, '')`)} AS definition, ${hashOf('o.access')} AS access
    FROM (${definitions(major).join(' UNION ALL ')}) o, pg_identify_object(o.classid, o.objid, 0) i
    WHERE i.identity IS NOT NULL AND NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = o.classid AND d.objid = o.objid AND d.objsubid = 0
        AND (d.deptype = 'e' OR (d.deptype = 'i' AND i.type <> 'sequence')))`;
}

const hashOf = (text: string): string => `to_hex(hashtextextended(${text} COLLATE "C", 0))`;

function byKind(objects: readonly z.infer<typeof listedSchema>[]): SchemaKind[] {
  const kinds = new Map<string, SchemaKind>();
  for (const { kind, name, definition, access } of objects) {
    const known = kinds.get(kind) ?? { kind, objects: [] };
    known.objects.push(access === null ? [name, definition] : [name, definition, access]);
    kinds.set(kind, known);
  }
  return [...kinds.values()];
}
