import { z } from 'zod';
import { collectArtifacts } from '../../model/artifact-list.ts';
import { messageOf, ServiceUnavailableError } from '../../model/errors.ts';
import { counted } from '../../model/plural.ts';
import type { Component, ComponentProbe, Leftover } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { singleUse } from '../restore/single-use.ts';
import { prepareCapture } from './capture.ts';
import { findClient } from './connection/client.ts';
import { leftOut, listDatabases } from './databases.ts';
import { parseFacts } from './facts.ts';
import { asidePattern, identifier } from './names.ts';
import { addressOf, type PostgresOptions } from './connection/options.ts';
import { readServer } from './compare/properties.ts';
import { planRestore } from './plan.ts';
import { openControlSession, openSession, sqlState } from './connection/session.ts';
import { stageRestore } from './stage.ts';
import { statementLine } from './swap-record.ts';
import { postgresGeneration, removeStaged } from './swap.ts';
import { verifyLive } from './verify.ts';
import { readServerFiles, unreadFiles } from './connection/server-files.ts';

export type { PostgresOptions } from './connection/options.ts';

/**
 * PostgreSQL 12 or newer over TCP (DESIGN.md section 7): dumps in custom format under a snapshot exported at the
 * cut; restores into new databases that are compared with the capture and then exchanged by renames.
 */
export function createPostgresComponent(options: PostgresOptions): Component {
  return {
    name: options.name,
    kind: 'postgres',
    service: options.service,
    probe: (ctx) => probe(options, ctx),
    leftovers: (ctx) => leftovers(options, ctx),
    ready: (ctx) => ready(options, ctx),
    prepare: (ctx) => prepareCapture(options, ctx),
    planRestore: async (from, restore, ctx, source) =>
      singleUse(await planRestore(options, from, restore, ctx, source), (...stage) =>
        stageRestore(options, ...stage),
      ),
    removeStaged: (restoreId, ctx) => removeStaged(options, restoreId, ctx),
    generation: (record) => postgresGeneration(options, record),
    verify: async (from, ctx, source) => {
      const artifacts = await collectArtifacts(from, source, ctx.signal);
      const byPath = new Map(artifacts.map((artifact) => [artifact.path, artifact]));
      return verifyLive(options, parseFacts(from.facts, from.name), { source, artifacts: byPath }, ctx);
    },
  };
}

async function ready(options: PostgresOptions, { signal }: OperationContext): Promise<void> {
  await using control = await openControlSession(options, signal);
  const { recovering } = await control.row(
    z.object({ recovering: z.boolean() }),
    'SELECT pg_is_in_recovery() AS recovering',
    signal,
  );
  if (!recovering) return;
  throw new ServiceUnavailableError(
    `PostgreSQL at ${addressOf(options)} answers but accepts no writes: it is in recovery`,
    { hint: 'Wait until it has recovered, or point tars at the primary server.' },
  );
}

async function probe(options: PostgresOptions, { signal }: OperationContext): Promise<ComponentProbe> {
  await using control = await openControlSession(options, signal);
  const server = await readServer(control, signal);
  // Without it nothing can be dumped, so a check before a backup reports it.
  await findClient(options, server.major, signal);
  const databases = await listDatabases(control, options, signal);
  const warnings = await leftOut(control, options, signal);
  const unread = unreadFiles(await readServerFiles(control, signal));
  if (unread !== undefined) warnings.push(unread);
  let tables = 0;
  for (const { name } of databases) {
    try {
      await using session = await openSession(options, name, signal);
      tables += (await session.row(z.object({ tables: z.coerce.number() }), tableCountQuery, signal)).tables;
    } catch (error) {
      if (databases.length === 1 || sqlState(error) === undefined) throw error;
      warnings.push(`Database "${name}" cannot be captured: ${messageOf(error)}`);
    }
  }
  return {
    serverVersion: server.version,
    sizeBytes: databases.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    summary: `${counted(databases.length, 'database')}, ${counted(tables, 'table')}`,
    warnings,
  };
}

async function leftovers(
  options: PostgresOptions,
  { signal }: OperationContext,
): Promise<readonly Leftover[]> {
  await using control = await openControlSession(options, signal);
  const aside = await control.rows(
    z.object({ name: z.string(), sizeBytes: z.coerce.number() }),
    `SELECT datname AS name, pg_database_size(oid)::text AS "sizeBytes" FROM pg_database
     WHERE datname ~ $1 ORDER BY datname COLLATE "C"`,
    signal,
    [asidePattern],
  );
  return aside.map(({ name, sizeBytes }) => ({
    ...{ what: `database "${name}"`, sizeBytes },
    remove: statementLine(options, control.database, `DROP DATABASE ${identifier(name)}`),
  }));
}

const tableCountQuery = `SELECT count(*)::text AS tables FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;
