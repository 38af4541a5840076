import { z } from 'zod';
import { messageOf, RestoreRefusedError, TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ArtifactSource, Bytes } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { checked } from './checked-artifact.ts';
import type { DatabaseFacts } from './facts.ts';
import { asideNames, identifier, qualified } from './names.ts';
import type { PostgresOptions } from './connection/options.ts';
import { asksForName, splitRefusals } from './own-name.ts';
import { createDatabaseStatement, propertyStatements, settingStatements } from './compare/properties.ts';
import type { Rejection } from './rejections.ts';
import { restoreAgain, restoreWhatIsTaken, type DumpRestore } from './restore-dump.ts';
import type { PostgresPlanDetails } from './plan.ts';
import { createRoles, missingRoles, readPasswordHashes } from './roles.ts';
import { ownSearchPath } from './compare/search-path.ts';
import {
  isSuperuser,
  openControlSession,
  openSession,
  sqlState,
  type Session,
} from './connection/session.ts';
import { dropStaged, swapDatabases } from './swap.ts';
import { databaseOids } from './database-exchange.ts';
import { swapRecord, type DatabaseSwap } from './swap-record.ts';
import { verifyStaged } from './verify.ts';

/** What a restore has put on the server so far. */
interface Created {
  readonly databases: DatabaseSwap[];
  readonly createdRoles: string[];
}

interface StageInputs {
  readonly options: PostgresOptions;
  readonly details: PostgresPlanDetails;
  readonly source: ArtifactSource;
  readonly created: Created;
  readonly control: Session;
  readonly superuser: boolean;
  readonly ctx: OperationContext;
}

/** By database, what the server did not take of its dump. */
type Rejected = ReadonlyMap<string, readonly Rejection[]>;

/** Restores every database of the snapshot under a new name. On failure none of it remains. */
export async function stageRestore(
  options: PostgresOptions,
  details: PostgresPlanDetails,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const created: Created = { databases: [], createdRoles: [] };
  const rejected = new Map<string, readonly Rejection[]>();
  try {
    await using control = await openControlSession(options, ctx.signal);
    const superuser = await isSuperuser(control, ctx.signal);
    const inputs: StageInputs = { options, details, source, created, control, superuser, ctx };
    await createMissingRoles(inputs);
    for (const database of details.facts.databases) {
      rejected.set(database.name, await stageDatabase(inputs, database));
    }
  } catch (error) {
    if (created.databases.length > 0)
      ctx.log.info(`${options.name}: the staged data is removed, because: ${messageOf(error)}`);
    await removeStaged(options, created).catch((cleanupError: unknown) => {
      ctx.log.warn(`Cannot remove the staged data: ${messageOf(cleanupError)}`);
    });
    throw error;
  }
  return stagedDatabases({ options, details, source }, created, rejected);
}

function stagedDatabases(
  { options, details, source }: Pick<StageInputs, 'options' | 'details' | 'source'>,
  swap: Created,
  rejected: Rejected,
): Staged {
  return {
    record: swapRecord(options, swap),
    replaces: undefined,
    verify: async (ctx) => {
      const findings: Finding[] = [];
      await using control = await openControlSession(options, ctx.signal);
      for (const database of details.facts.databases) {
        const name = swap.databases.find(({ live }) => live === database.name)?.staged ?? database.name;
        const rejections = rejected.get(database.name) ?? [];
        findings.push(...(await verifyStaged(options, control, { database, name, rejections }, ctx.signal)));
      }
      return findings;
    },
    swap: async (ctx) => {
      await swapDatabases(options, swap, ctx);
      await using control = await openControlSession(options, ctx.signal);
      const superuser = await isSuperuser(control, ctx.signal);
      const inputs: StageInputs = { options, details, source, created: swap, control, superuser, ctx };
      for (const database of details.facts.databases) {
        await restoreUnderOwnName(inputs, database, rejected.get(database.name) ?? []);
      }
    },
    discard: () => removeStaged(options, swap),
  };
}

/** Runs to its end even when the operation was interrupted: what is staged takes the space of a whole copy. */
async function removeStaged(options: PostgresOptions, created: Created): Promise<void> {
  if (created.databases.length === 0 && created.createdRoles.length === 0) return;
  const { signal } = new AbortController();
  await using control = await openControlSession(options, signal);
  await dropStaged(control, created, signal);
}

async function createMissingRoles({ details, source, created, control, ctx }: StageInputs): Promise<void> {
  const { facts } = details;
  const missing = await missingRoles(control, facts, ctx.signal);
  if (missing.length === 0) return;
  const globals = checked(
    source.open(facts.globalsArtifact, ctx.signal),
    facts.globalsArtifact,
    details.artifacts,
  );
  const hashes = await readPasswordHashes(globals);
  created.createdRoles.push(...missing.map(({ name }) => name));
  const { memberships, parameterGrants = [] } = facts;
  const { serverMajor } = details;
  await createRoles(control, missing, { memberships, parameterGrants, hashes, serverMajor }, ctx.signal);
}

async function stageDatabase(inputs: StageInputs, database: DatabaseFacts): Promise<readonly Rejection[]> {
  const { options, details, source, control, ctx } = inputs;
  const { staged } = asideNames(database.name, details.restoreId);
  await createStaged(inputs, database, staged);
  const progress = ctx.progress.start(
    `${options.name}: ${database.name}`,
    details.artifacts.get(database.artifact)?.sizeBytes,
  );
  let outcome: 'ok' | 'failed' = 'failed';
  let rejections: readonly Rejection[];
  try {
    const open = (): Bytes =>
      advancing(
        checked(source.open(database.artifact, ctx.signal), database.artifact, details.artifacts),
        progress,
      );
    rejections = await restoreWhatIsTaken(dumpRestore(inputs, database, staged, open), ctx);
    outcome = 'ok';
  } catch (error) {
    throw describeRestoreError(error, database.name);
  } finally {
    progress.finish(outcome);
  }
  // After the data: a captured default_transaction_read_only or statement_timeout must not meet pg_restore.
  await resetSettings(inputs, database, staged);
  for (const statement of propertyStatements(staged, database.properties)) {
    await control.run(statement, ctx.signal);
  }
  await analyse(options, staged, ctx);
  return rejections;
}

/**
 * Once the database has its name, tries again what it may have refused for its other name alone. Its services are
 * stopped meanwhile, and the whole dump is read: only where there is a reason.
 */
async function restoreUnderOwnName(
  inputs: StageInputs,
  database: DatabaseFacts,
  rejections: readonly Rejection[],
): Promise<void> {
  const { options, details, source, ctx } = inputs;
  const { name, artifact } = database;
  if (rejections.length === 0) return;
  if (splitRefusals(rejections, name).later.length === 0) {
    await using session = await openSession(options, name, ctx.signal);
    if (!(await asksForName(session, ctx.signal))) return;
  }
  ctx.log.info(`${options.name}: the parts that "${name}" accepts only under its own name are restored now`);
  const open = (): Bytes => checked(source.open(artifact, ctx.signal), artifact, details.artifacts);
  const restore = dumpRestore(inputs, database, name, open);
  for (const { what, error } of await restoreAgain(restore, rejections, ctx.signal)) {
    ctx.log.warn(`Database "${name}": the server did not accept ${what}: ${error}`);
  }
  await resetSettings(inputs, database, name);
  await analyse(options, name, ctx);
}

/** The error of the server speaks of the session's database, and of the locale of no database at all. */
function describeCreateError(error: unknown, { name, properties }: DatabaseFacts): RestoreRefusedError {
  const detail =
    error instanceof TarsError && error.cause !== undefined ? messageOf(error.cause) : messageOf(error);
  const locales = [...new Set([properties.collate, properties.ctype, properties.locale])]
    .filter((locale) => locale !== null)
    .join(', ');
  const hint = /locale|collat/i.test(detail)
    ? `Its locale is ${locales}: install it where the server runs (Debian: add it to /etc/locale.gen and run locale-gen; in a container: use the image that it ran in), restart the server, then run this again.`
    : 'Fix the problem that the server reports, then run this again.';
  return new RestoreRefusedError(`Cannot create a database like "${name}": ${detail}`, {
    hint,
    cause: error,
  });
}

async function createStaged(
  { details, created, control, ctx }: StageInputs,
  database: DatabaseFacts,
  staged: string,
): Promise<void> {
  const { signal } = ctx;
  const { previous } = asideNames(database.name, details.restoreId);
  const before = await databaseOids(control, signal);
  for (const name of [staged, previous]) {
    if (!before.has(name)) continue;
    throw new RestoreRefusedError(`There is already a database "${name}" of a restore with the same id`, {
      hint: `Check its content, then drop it (DROP DATABASE "${name}") or undo that restore.`,
    });
  }
  const statement = createDatabaseStatement(staged, database.properties, {
    major: details.serverMajor,
    tablespaces: details.tablespaces,
  });
  // Not interrupted halfway, so that we always know whether there is something to remove.
  await control.run(statement, new AbortController().signal).catch((error: unknown) => {
    throw describeCreateError(error, database);
  });
  const oids = await databaseOids(control, new AbortController().signal);
  const stagedOid = oids.get(staged);
  if (stagedOid === undefined) throw new TarsError('internal', `Database "${staged}" vanished`);
  const liveOid = oids.get(database.name) ?? null;
  created.databases.push({ live: database.name, staged, previous, stagedOid, liveOid });
}

/** Without subscriptions: dropping a restored one would drop the replication slot of the live one. */
function dumpRestore(
  { options, details, superuser, ctx }: StageInputs,
  { content, properties }: DatabaseFacts,
  database: string,
  open: () => Bytes,
): DumpRestore {
  const flags = [
    '--no-subscriptions',
    ...(content.tablespaces.every(({ name }) => details.tablespaces.has(name)) ? [] : ['--no-tablespaces']),
  ];
  const searchPath = async (): Promise<string> => {
    await using session = await openSession(options, database, ctx.signal);
    return await ownSearchPath(session, properties, ctx.signal);
  };
  return { client: details.client, database, flags, superuser, open, searchPath };
}

/**
 * Gives `target` the captured settings and no others: scripts of extensions may have made some of their own. Settings
 * this server does not know, or does not let us set, are reported; verification names them again.
 */
async function resetSettings(
  { control, ctx }: StageInputs,
  database: DatabaseFacts,
  target: string,
): Promise<void> {
  await control.run(`ALTER DATABASE ${identifier(target)} RESET ALL`, ctx.signal);
  for (const statement of settingStatements(target, database.properties)) {
    try {
      await control.run(statement, ctx.signal);
    } catch (error) {
      // undefined_object, invalid_parameter_value, insufficient_privilege, cant_change_runtime_param
      if (!['42704', '22023', '42501', '55P02'].includes(sqlState(error) ?? '')) throw error;
      ctx.log.warn(`Cannot apply to "${database.name}": ${(error as Error).message}`);
    }
  }
}

/**
 * Dumps carry no planner statistics; without them the first queries on large tables can be very slow. Table by table:
 * one whose index or foreign partition cannot be reached keeps no other from having them.
 */
async function analyse(options: PostgresOptions, staged: string, ctx: OperationContext): Promise<void> {
  await using session = await openSession(options, staged, ctx.signal);
  const tables = await session.rows(
    z.object({ schema: z.string(), name: z.string() }),
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`,
    ctx.signal,
  );
  const failures: string[] = [];
  for (const { schema, name } of tables) {
    try {
      await session.run(`ANALYZE ${qualified(schema, name)}`, ctx.signal);
    } catch (error) {
      if (sqlState(error) === undefined) throw error;
      failures.push(`${schema}.${name}: ${messageOf(error)}`);
    }
  }
  const [first] = failures;
  if (first === undefined) return;
  const others = failures.length === 1 ? '' : `, and ${failures.length - 1} more`;
  ctx.log.warn(`${options.name}: cannot collect statistics for ${first}${others}`);
}

async function* advancing(bytes: Bytes, progress: { advance(bytes: number): void }): Bytes {
  for await (const chunk of bytes) {
    progress.advance(chunk.byteLength);
    yield chunk;
  }
}

function describeRestoreError(error: unknown, database: string): unknown {
  if (!(error instanceof TarsError) || error.code !== 'subprocess') return error;
  return new TarsError('restore-failed', `Cannot restore database "${database}": ${error.message}`, {
    hint: 'Nothing live was changed. Read the message of pg_restore above and the log of the server, then run the restore again.',
    cause: error,
  });
}
