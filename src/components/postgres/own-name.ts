import { z } from 'zod';
import type { Rejection } from './rejections.ts';
import type { Session } from './connection/session.ts';

/** What the server did not take of a database while it was staged. */
interface Refusals {
  /** For good, as far as anyone can tell. */
  readonly refused: readonly Rejection[];
  /** What it takes once the database has its own name, and what depends on that. */
  readonly later: readonly Rejection[];
}

/**
 * Tells apart what is refused only because a staged database has another name. An extension may live in one database
 * alone, which a setting of the server names: "can only create extension in database postgres" (pg_cron).
 */
export function splitRefusals(rejections: readonly Rejection[], database: string): Refusals {
  const isBound = ({ error }: Rejection): boolean =>
    /\bonly\b/.test(error) &&
    [database, `"${database}"`].some((name) => error.endsWith(` in database ${name}`));
  if (!rejections.some(isBound)) return { refused: rejections, later: [] };
  const waits = (one: Rejection): boolean => isBound(one) || one.error.endsWith(' does not exist');
  return { refused: rejections.filter((one) => !waits(one)), later: rejections.filter(waits) };
}

/** Whether a constraint or a function of the database asks for the database's name. */
export async function asksForName(session: Session, signal: AbortSignal): Promise<boolean> {
  const asks = (text: string): string => String.raw`${text} ~* '\m(current_database|current_catalog)\M'`;
  const { found } = await session.row(
    z.object({ found: z.boolean() }),
    `SELECT EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'c' AND ${asks('pg_get_constraintdef(k.oid)')})
       OR EXISTS (SELECT FROM pg_proc p WHERE p.oid >= 16384 AND p.prokind <> 'a' AND ${asks('pg_get_functiondef(p.oid)')}
         AND NOT EXISTS (SELECT FROM pg_depend d
           WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')) AS found`,
    signal,
  );
  return found;
}
