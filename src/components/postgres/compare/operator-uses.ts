import { z } from 'zod';
import type { Finding } from '../../../model/finding.ts';
import type { MakeFinding } from './compare-schema.ts';
import type { OperatorUse } from '../facts.ts';
import type { Session } from '../connection/session.ts';

/** Of more, none are kept. */
export const operatorUsesMax = 10_000;

/**
 * Reads which definitions of the database use which operators of its own. `IS DISTINCT FROM`, NULLIF and CASE do not
 * print the schema of the operator that they use: a dump sets an empty search_path, and under it they find another one,
 * such as that of text in the place of citext's. The text of the definition is the same, its meaning is not.
 * @returns undefined when there are more than {@link operatorUsesMax}
 */
export async function readOperatorUses(
  session: Session,
  signal: AbortSignal,
): Promise<OperatorUse[] | undefined> {
  const uses = await session.rows(
    z.object({ object: z.string(), operator: z.string() }),
    `SELECT DISTINCT o.type || ' ' || o.identity COLLATE "C" AS object, r.identity COLLATE "C" AS operator
     FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) o,
       pg_identify_object(d.refclassid, d.refobjid, 0) r
     WHERE d.refclassid = 'pg_operator'::regclass AND d.deptype = 'n'
       AND d.classid NOT IN ('pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_amop'::regclass)
       AND NOT EXISTS (SELECT FROM pg_depend e
         WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
     ORDER BY 1, 2 LIMIT ${operatorUsesMax + 1}`,
    signal,
  );
  return uses.length > operatorUsesMax ? undefined : uses;
}

/** Compares what {@link readOperatorUses} found; older snapshots do not tell. */
export function compareOperatorUses(
  captured: readonly OperatorUse[] | undefined,
  found: readonly OperatorUse[] | undefined,
  finding: MakeFinding,
): Finding[] {
  if (captured === undefined || found === undefined) return [];
  return captured
    .filter(
      (use) => !found.some(({ object, operator }) => object === use.object && operator === use.operator),
    )
    .map(({ object, operator }) =>
      finding(
        'warning',
        'operator-not-used',
        `${object} no longer uses operator ${operator}, which it used at the capture, so it may compare differently. pg_restore looks up operators without a search_path. Create this object again`,
      ),
    );
}
