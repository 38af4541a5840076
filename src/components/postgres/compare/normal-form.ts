import { randomBytes } from 'node:crypto';
import type { ManifestArtifact } from '../../../model/manifest.ts';
import type { ArtifactSource } from '../../../ports/artifacts.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { messageOf } from '../../../model/errors.ts';
import { checked } from '../checked-artifact.ts';
import { findClient } from '../connection/client.ts';
import { dropDatabase } from '../database-exchange.ts';
import type { DatabaseFacts, PostgresFacts, SchemaFacts } from '../facts.ts';
import { asideNames } from '../names.ts';
import type { PostgresOptions } from '../connection/options.ts';
import { createDatabaseStatement, readServer } from './properties.ts';
import { restoreWhatIsTaken } from '../restore-dump.ts';
import { readSchema } from './schema.ts';
import { isSuperuser, openSession, type Session } from '../connection/session.ts';

/** Where the dumps of a snapshot come from. */
export interface DumpSource {
  readonly source: ArtifactSource;
  readonly artifacts: ReadonlyMap<string, ManifestArtifact>;
}

/**
 * What the schemas of a database read like once this server has parsed the captured definitions. The server writes
 * an expression from what it has parsed, and not always in the words it was given: nested ANDs are joined, casts
 * move. So the dump's definitions are restored, without any data, into a database that is dropped again.
 */
export async function readNormalSchema(
  options: PostgresOptions,
  control: Session,
  facts: PostgresFacts,
  { name, artifact, properties, content }: DatabaseFacts,
  { source, artifacts }: DumpSource,
  ctx: OperationContext,
): Promise<SchemaFacts> {
  const { signal } = ctx;
  const { major } = await readServer(control, signal);
  const client = await findClient(options, Math.max(major, facts.clientMajor), signal);
  const { staged } = asideNames(name, `verify${randomBytes(4).toString('hex')}`);
  const target = { major, tablespaces: new Set<string>() };
  const superuser = await isSuperuser(control, signal);
  try {
    await control.run(createDatabaseStatement(staged, properties, target), new AbortController().signal);
    await restoreWhatIsTaken(
      {
        client,
        database: staged,
        flags: ['--schema-only', '--no-subscriptions', '--no-tablespaces'],
        superuser,
        open: () => checked(source.open(artifact, signal), artifact, artifacts),
        searchPath: () => Promise.resolve('pg_catalog'),
      },
      ctx,
    );
    await using session = await openSession(options, staged, signal);
    await session.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', signal);
    return await readSchema(session, content.schema, signal);
  } finally {
    await dropDatabase(control, staged, new AbortController().signal).catch((error: unknown) => {
      // What was read is not less true for it.
      ctx.log.warn(
        `The database "${staged}", which this comparison made, is still there: ${messageOf(error)}`,
      );
    });
  }
}
