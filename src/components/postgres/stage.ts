import { createHash } from 'node:crypto';
import { CorruptionError, messageOf, RestoreRefusedError, TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { ManifestArtifact } from '../../model/manifest.ts';
import type { RestorePlan, SwapRecord } from '../../model/restore-plan.ts';
import type { ArtifactSource, Bytes } from '../../ports/artifacts.ts';
import type { Staged } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { DatabaseFacts } from './facts.ts';
import { asideNames } from './names.ts';
import type { PostgresOptions } from './options.ts';
import { conninfo, feedProgram } from './programs.ts';
import { createDatabaseStatement, propertyStatements, settingStatements } from './properties.ts';
import { PostgresPlanDetails } from './restore-plan.ts';
import { createRoles, missingRoles, readPasswordHashes } from './roles.ts';
import { openControlSession, openSession, sqlState, type Session } from './session.ts';
import { dropStaged, swapDatabases } from './swap.ts';
import { databaseOids } from './database-exchange.ts';
import { parseSwapRecord, swapRecord, type DatabaseSwap } from './swap-record.ts';
import { verifyDatabase } from './verify.ts';

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
  readonly ctx: OperationContext;
}

/** Restores every database of the snapshot under a new name. On failure none of it remains. */
export async function stageRestore(
  options: PostgresOptions,
  plan: RestorePlan,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Staged> {
  const { details } = plan;
  if (!(details instanceof PostgresPlanDetails)) {
    throw new TarsError('internal', `The plan for component ${plan.component} was not made by it`);
  }
  const created: Created = { databases: [], createdRoles: [] };
  try {
    await using control = await openControlSession(options, ctx.signal);
    const inputs: StageInputs = { options, details, source, created, control, ctx };
    await createMissingRoles(inputs);
    for (const database of details.facts.databases) await stageDatabase(inputs, database);
  } catch (error) {
    await removeStaged(options, created).catch((cleanupError: unknown) => {
      ctx.log.warn(`Cannot remove what was staged: ${String(cleanupError)}`);
    });
    throw error;
  }
  return stagedDatabases(options, details, swapRecord(options, created));
}

function stagedDatabases(options: PostgresOptions, details: PostgresPlanDetails, record: SwapRecord): Staged {
  const swap = parseSwapRecord(record);
  return {
    record,
    verify: async (ctx) => {
      const findings: Finding[] = [];
      await using control = await openControlSession(options, ctx.signal);
      for (const database of details.facts.databases) {
        const name = swap.databases.find(({ live }) => live === database.name)?.staged ?? database.name;
        findings.push(...(await verifyDatabase(options, control, database, name, ctx.signal)));
      }
      return findings;
    },
    swap: (ctx) => swapDatabases(options, swap, ctx),
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
  const globals = checked(source.open(facts.globalsArtifact, ctx.signal), facts.globalsArtifact, details);
  const hashes = await readPasswordHashes(globals);
  created.createdRoles.push(...missing.map(({ name }) => name));
  await createRoles(control, missing, facts.memberships, hashes, ctx.signal);
}

async function stageDatabase(inputs: StageInputs, database: DatabaseFacts): Promise<void> {
  const { options, details, source, control, ctx } = inputs;
  const { staged } = asideNames(database.name, details.restoreId);
  await createStaged(inputs, database, staged);
  const progress = ctx.progress.start(
    `${options.name}: ${database.name}`,
    details.artifacts.get(database.artifact)?.sizeBytes,
  );
  let outcome: 'ok' | 'failed' = 'failed';
  try {
    const bytes = checked(source.open(database.artifact, ctx.signal), database.artifact, details);
    await restoreDump(inputs, database, staged, advancing(bytes, progress));
    outcome = 'ok';
  } catch (error) {
    throw describeRestoreError(error, database.name);
  } finally {
    progress.finish(outcome);
  }
  // After the data: a captured default_transaction_read_only or statement_timeout must not meet pg_restore.
  for (const statement of propertyStatements(staged, database.properties)) {
    await control.run(statement, ctx.signal);
  }
  await applySettings(inputs, database, staged);
  await analyse(options, staged, ctx);
}

/** The error of the server speaks of the session's database, and of the locale of no database at all. */
function describeCreateError(error: unknown, { name, properties }: DatabaseFacts): RestoreRefusedError {
  const detail =
    error instanceof TarsError && error.cause !== undefined ? messageOf(error.cause) : messageOf(error);
  const locales = [...new Set([properties.collate, properties.ctype, properties.locale])]
    .filter((locale) => locale !== null)
    .join(', ');
  const hint = /locale|collat/i.test(detail)
    ? `Its locale is ${locales}: install it where the server runs (Debian: name it in /etc/locale.gen, run locale-gen; in a container: take the image it ran in), restart the server, then run this again.`
    : 'Correct what the server says, then run this again.';
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
      hint: `Look at it, then drop it (DROP DATABASE "${name}") or undo that restore.`,
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
async function restoreDump(
  { details, ctx }: StageInputs,
  { content }: DatabaseFacts,
  staged: string,
  dump: Bytes,
): Promise<void> {
  const { pgRestore, options } = details.client;
  const args = [
    '--format=custom',
    '--exit-on-error',
    '--no-subscriptions',
    ...(content.tablespaces.every(({ name }) => details.tablespaces.has(name)) ? [] : ['--no-tablespaces']),
    '--no-password',
    `--dbname=${conninfo(options, staged)}`,
  ];
  await feedProgram({ path: pgRestore, args, options }, dump, ctx.signal);
}

/** Settings this server does not know, or does not let us set, are reported; verification names them again. */
async function applySettings(
  { control, ctx }: StageInputs,
  database: DatabaseFacts,
  staged: string,
): Promise<void> {
  for (const statement of settingStatements(staged, database.properties)) {
    try {
      await control.run(statement, ctx.signal);
    } catch (error) {
      // undefined_object, invalid_parameter_value, insufficient_privilege, cant_change_runtime_param
      if (!['42704', '22023', '42501', '55P02'].includes(sqlState(error) ?? '')) throw error;
      ctx.log.warn(`Cannot apply to "${database.name}": ${(error as Error).message}`);
    }
  }
}

/** Dumps carry no planner statistics; without them the first queries on large tables can be very slow. */
async function analyse(options: PostgresOptions, staged: string, ctx: OperationContext): Promise<void> {
  await using session = await openSession(options, staged, ctx.signal);
  try {
    await session.run('ANALYZE', ctx.signal);
  } catch (error) {
    if (sqlState(error) === undefined) throw error;
    ctx.log.warn(`ANALYZE failed: ${(error as Error).message}`);
  }
}

/**
 * Passes the artifact through and fails at its end unless it was the one the manifest describes. A flipped byte
 * in a row's data is invisible to pg_restore.
 */
async function* checked(bytes: Bytes, path: string, details: PostgresPlanDetails): Bytes {
  const expected: ManifestArtifact | undefined = details.artifacts.get(path);
  const hash = createHash('sha256');
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
  if (expected === undefined || hash.digest('hex') === expected.sha256) return;
  throw new CorruptionError(`Artifact ${path} is not what the manifest says: its SHA-256 differs`, {
    hint: 'Run tars check --read-data, and restore from another snapshot.',
  });
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
    hint: 'Nothing live was changed. Look at the message of pg_restore above. Taken out of the snapshot, the dump can be restored by hand: pg_restore without --exit-on-error goes on past what it cannot do.',
    cause: error,
  });
}
