import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';
import { identifier, literal, shellWord } from './names.ts';
import type { PostgresOptions } from './options.ts';

/**
 * One database to be exchanged. Databases are recognised by their OIDs, which a rename does not change: where
 * a crash or a person left them is then plain to see, and nothing else can be taken for them.
 */
const databaseSwapSchema = z.object({
  live: z.string(),
  staged: z.string(),
  previous: z.string(),
  stagedOid: z.number().int(),
  /** Null when there was no live database. */
  liveOid: z.number().int().nullable(),
});
/** One database to be exchanged, by names and OIDs. */
export type DatabaseSwap = z.infer<typeof databaseSwapSchema>;

const detailsSchema = z.object({
  databases: z.array(databaseSwapSchema),
  createdRoles: z.array(z.string()),
});
/** What the journal keeps of a swap: enough to finish it or to go back, whatever became of this process. */
export type SwapDetails = z.infer<typeof detailsSchema>;

/** The record an operation journals before the swap. */
export function swapRecord(options: PostgresOptions, details: SwapDetails): SwapRecord {
  return {
    component: options.name,
    kind: 'postgres',
    wayBack: details.databases.flatMap((swap) => wayBack(options, swap)),
    details,
  };
}

/** @throws CorruptionError when the journal holds something else */
export function parseSwapRecord(record: SwapRecord): SwapDetails {
  const parsed = detailsSchema.safeParse(record.details);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(
    `The journalled swap of component ${record.component} is not readable: ${z.prettifyError(parsed.error)}`,
  );
}

function wayBack(options: PostgresOptions, { live, staged, previous, liveOid }: DatabaseSwap): string[] {
  const where = liveOid === null || live !== 'postgres' ? 'postgres' : 'template1';
  const connection = `psql -v ON_ERROR_STOP=1 -h ${shellWord(options.host)} -p ${options.port} -U ${shellWord(options.user)} -d ${where}`;
  const statements = [
    `ALTER DATABASE ${identifier(live)} ALLOW_CONNECTIONS false`,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${literal(live)}`,
    `ALTER DATABASE ${identifier(live)} RENAME TO ${identifier(staged)}`,
    ...(liveOid === null
      ? []
      : [
          `ALTER DATABASE ${identifier(previous)} RENAME TO ${identifier(live)}`,
          `ALTER DATABASE ${identifier(live)} ALLOW_CONNECTIONS true`,
        ]),
  ];
  return statements.map((statement) => `${connection} -c ${shellWord(statement)}`);
}
