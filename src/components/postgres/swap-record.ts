import { z } from 'zod';
import type { SwapRecord } from '../../model/restore-plan.ts';
import { swapDetails } from '../restore/swap-details.ts';
import { identifier, literal } from './names.ts';
import type { PostgresOptions } from './connection/options.ts';
import { shellWord } from '../../model/shell-word.ts';

const kind = 'postgres';

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
    kind,
    wayBack: details.databases.flatMap((swap) => wayBack(options, swap)),
    details,
  };
}

/** @throws CorruptionError when the journal holds something else */
export function parseSwapRecord(record: SwapRecord): SwapDetails {
  return swapDetails(record, kind, detailsSchema);
}

function wayBack(options: PostgresOptions, { live, staged, previous, liveOid }: DatabaseSwap): string[] {
  const where = liveOid === null || live !== 'postgres' ? 'postgres' : 'template1';
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
  return statements.map((statement) => statementLine(options, where, statement));
}

/**
 * A shell line that carries out one statement. For a server in a container it needs nothing but the docker command:
 * the client and the password are those of the container.
 */
export function statementLine(options: PostgresOptions, database: string, statement: string): string {
  const { container, host, port, user } = options;
  const common = ['psql', '-v', 'ON_ERROR_STOP=1'];
  if (container === undefined) {
    const words = [...common, '-h', host, '-p', String(port), '-U', user, '-d', database, '-c', statement];
    return words.map(shellWord).join(' ');
  }
  const words = [...common, '-p', String(container.port), '-U', user, '-d', database, '-c'];
  const script = `${insideSetup}; exec ${words.map(shellWord).join(' ')} "$1"`;
  return ['docker', 'exec', container.name, 'sh', '-c', script, 'sh', statement].map(shellWord).join(' ');
}

/** The password where local connections need one, and programs of Debian's packages. */
const insideSetup =
  'export PGPASSWORD="${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}"; ' +
  'for bin in /usr/lib/postgresql/*/bin; do PATH=$PATH:$bin; done';
