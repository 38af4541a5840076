import { throwIfAborted } from '../../model/abort.ts';
import { messageOf, TarsError } from '../../model/errors.ts';
import type { ArtifactSink, Bytes } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import { ownAttributes } from '../paths/own-attributes.ts';
import type { Client } from './connection/client.ts';
import { lockTimeoutMs, nothingRead, readContent } from './compare/content.ts';
import type { ContentFacts, DatabaseFacts, PostgresFacts, SequenceFacts, Unread } from './facts.ts';
import { dumpPath, globalsPath } from './names.ts';
import type { PostgresOptions } from './connection/options.ts';
import { conninfo, programOutput } from './connection/programs.ts';
import { readProperties, type ServerIdentity } from './compare/properties.ts';
import { mayReadPasswords } from './roles.ts';
import { ownSearchPath } from './compare/search-path.ts';
import type { Session } from './connection/session.ts';

/** One database with the transaction that fixes its state. */
export interface MarkedDatabase {
  readonly name: string;
  readonly sizeBytes: number;
  readonly session: Session;
  snapshot: string | undefined;
  sequences: readonly SequenceFacts[];
  /** What could not be read so far. */
  readonly unread: Unread[];
  /** Whether its tables are locked against what a dump would show wrong. */
  held: boolean;
}

/** What a marked capture is taken with. */
export interface CaptureInputs {
  readonly options: PostgresOptions;
  readonly server: ServerIdentity;
  readonly client: Client;
  readonly control: Session;
}

/**
 * Roles and tablespaces as SQL, for people and for the password hashes. Hashes are as secret as passwords: they
 * go only where everything is encrypted.
 */
export async function captureGlobals(
  { options, client, control }: CaptureInputs,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<PostgresFacts['passwords']> {
  const readable = await mayReadPasswords(control, ctx.signal);
  if (sink.encrypted && !readable) {
    ctx.log.warn(
      `User ${options.user} may not read password hashes; the roles in the snapshot have no passwords`,
    );
  }
  const included = sink.encrypted && readable;
  const args = [
    '--globals-only',
    '--no-password',
    `--lock-wait-timeout=${lockTimeoutMs}`,
    `--dbname=${conninfo(client.options, control.database)}`,
    ...(included ? [] : ['--no-role-passwords']),
  ];
  const body = programOutput({ path: client.pgDumpall, args, options: client.options }, ctx.signal);
  await sink.write(globalsPath(options.name), body, {
    attributes: ownAttributes(ctx),
    chunking: 'small',
    signal: ctx.signal,
  });
  if (included) return 'included';
  return sink.encrypted ? 'not-readable' : 'withheld';
}

/**
 * Dumps one database into the sink and reads the facts of the same snapshot: beside the dump, or after it where the
 * server has few locks. Facts that cannot be read are named in them; a dump that fails stops their reading.
 */
export async function captureDatabase(
  { options, client, control }: CaptureInputs,
  database: MarkedDatabase,
  sink: ArtifactSink,
  ctx: OperationContext,
): Promise<DatabaseFacts> {
  const { name, session, sizeBytes, snapshot, sequences, unread } = database;
  if (snapshot === undefined) {
    throw new TarsError('internal', `Database "${name}" was to be captured without having been marked`);
  }
  const artifact = dumpPath(options.name, name);
  const properties = await readProperties(control, name, ctx.signal);
  const failure = new AbortController();
  const factsSignal = AbortSignal.any([ctx.signal, failure.signal]);
  const searchPath = (): Promise<string> => ownSearchPath(session, properties, factsSignal);
  const read = (): Promise<ContentFacts | { error: unknown }> =>
    readContent(session, { sequences, searchPath, unread }, factsSignal).catch((error: unknown) => ({
      error,
    }));
  // Reading the catalogs takes more than a hundred locks, and the dump needs the last ones of a small lock table.
  const beside = database.held ? read() : undefined;
  const args = dumpArguments(client.options, name, snapshot);
  const body = programOutput({ path: client.pgDump, args, options: client.options }, ctx.signal);
  const attributes = ownAttributes(ctx);
  try {
    await sink.write(artifact, counted(body, `${options.name}: ${name}`, sizeBytes, ctx), {
      ...{ attributes, chunking: 'stream', signal: ctx.signal },
    });
  } catch (error) {
    failure.abort();
    await beside;
    throwIfAborted(ctx.signal, error);
    throw describeDumpError(error, name);
  }
  const content = await (beside ?? read());
  if (!('error' in content)) return { name, artifact, sizeBytes, properties, content };
  throwIfAborted(ctx.signal, content.error);
  const nothing = nothingRead({ what: 'the content', reason: messageOf(content.error) });
  return { name, artifact, sizeBytes, properties, content: nothing };
}

/**
 * Custom format without its own compression: the repository deduplicates and compresses better. The archive is
 * whole when the program ended with 0 and its output was read to the end, which {@link programOutput} demands;
 * its later integrity is the artifact's SHA-256.
 */
function dumpArguments(options: PostgresOptions, database: string, snapshot: string): string[] {
  return [
    '--format=custom',
    '--compress=0',
    `--snapshot=${snapshot}`,
    `--lock-wait-timeout=${lockTimeoutMs}`,
    '--no-password',
    `--dbname=${conninfo(options, database)}`,
  ];
}

function describeDumpError(error: unknown, database: string): unknown {
  if (!(error instanceof TarsError) || error.code !== 'subprocess') return error;
  const hint = /permission denied|must be superuser|row-level security/i.test(error.message)
    ? 'Give the configured user the right to read everything (GRANT pg_read_all_data), or use a superuser.'
    : 'Read the message of pg_dump above and the log of the server, then run the backup again.';
  return new TarsError('capture-failed', `Cannot dump database "${database}": ${error.message}`, {
    hint,
    cause: error,
  });
}

async function* counted(body: Bytes, task: string, expectedBytes: number, ctx: OperationContext): Bytes {
  const progress = ctx.progress.start(task, expectedBytes);
  let outcome: 'ok' | 'failed' = 'failed';
  try {
    for await (const chunk of body) {
      progress.advance(chunk.byteLength);
      yield chunk;
    }
    outcome = 'ok';
  } finally {
    progress.finish(outcome);
  }
}
