import { z } from 'zod';
import { CorruptionError, messageOf, TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import type { OperationContext } from '../../ports/context.ts';
import { compareGlobals } from './compare/globals.ts';
import { compareContent, compareProperties } from './compare/compare.ts';
import { readContent, readSequences } from './compare/content.ts';
import { isReworded } from './compare/compare-schema.ts';
import type { ContentFacts, DatabaseFacts, PostgresFacts, SchemaFacts } from './facts.ts';
import { readNormalSchema, type DumpSource } from './compare/normal-form.ts';
import type { PostgresOptions } from './connection/options.ts';
import { splitRefusals } from './own-name.ts';
import { readProperties } from './compare/properties.ts';
import type { Rejection } from './rejections.ts';
import { readGlobals } from './roles.ts';
import { ownSearchPath } from './compare/search-path.ts';
import { openControlSession, openSession, sqlState, type Session } from './connection/session.ts';

interface Comparison {
  readonly options: PostgresOptions;
  readonly control: Session;
  readonly expected: DatabaseFacts;
  /** Of the database that is compared, live or staged. */
  readonly name: string;
}

/** How a definition of the capture reads on this server now; asked only when one reads otherwise. */
type NormalSchema = () => Promise<SchemaFacts | undefined>;

async function verifyDatabase(
  { options, control, expected, name }: Comparison,
  normalSchema: NormalSchema,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found = await readFound(options, expected, name, signal);
  const properties = await readProperties(control, name, signal);
  const differences = compareProperties(expected.name, expected.properties, properties, options.name);
  const justRestored = name !== expected.name;
  const findings = compareContent(expected, found, options.name, justRestored);
  if (justRestored || !findings.some(isReworded)) return [...findings, ...differences];
  const schema = await normalSchema();
  if (schema === undefined) return [...findings, ...differences];
  const normal = { ...expected, content: { ...expected.content, schema } };
  const still = compareContent(normal, found, options.name, justRestored);
  const confirmed = findings.filter(
    (finding) =>
      !isReworded(finding) ||
      still.some((other) => other.message === finding.message || (isReworded(other) && isCount(other))) ||
      lacksNormalForm(finding, findings, still) ||
      (isCount(finding) && still.some(isReworded)),
  );
  return [...confirmed, ...differences];
}

const notCaptured = / was not captured$/;
/** Of findings that are not named; which of them are confirmed nobody can tell. */
const isCount = ({ message }: Finding): boolean => /\d+ more like: /.test(message);

/**
 * Whether the dump alone did not bring the object of this finding back, so that nothing but its captured words can be
 * compared. Objects beyond those that are named count as such.
 */
function lacksNormalForm(
  { message }: Finding,
  findings: readonly Finding[],
  still: readonly Finding[],
): boolean {
  return still
    .filter(({ code }) => code.endsWith('-added'))
    .filter((other) => !findings.some((finding) => finding.message === other.message))
    .some(
      (other) =>
        !notCaptured.test(other.message) ||
        message.startsWith(`${other.message.replace(notCaptured, '')} is defined differently`),
    );
}

async function readFound(
  options: PostgresOptions,
  expected: DatabaseFacts,
  name: string,
  signal: AbortSignal,
): Promise<ContentFacts> {
  await using session = await openSession(options, name, signal);
  await session.run('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', signal);
  const sequences = await readSequences(session, signal);
  const searchPath = (): Promise<string> => ownSearchPath(session, expected.properties, signal);
  const { schema, details } = expected.content;
  return await readContent(session, { sequences, searchPath, unread: [], schema, details }, signal);
}

/** A database restored under another name, and what the server did not take of it. */
interface StagedDatabase {
  readonly database: DatabaseFacts;
  readonly name: string;
  readonly rejections: readonly Rejection[];
}

/** Names what the server did not take, and compares the rest. What follows from a rejection may be accepted with it. */
export async function verifyStaged(
  options: PostgresOptions,
  control: Session,
  { database, name, rejections }: StagedDatabase,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const comparison = { options, control, expected: database, name };
  const findings = await verifyDatabase(comparison, () => Promise.resolve(undefined), signal);
  if (rejections.length === 0) return findings;
  const { refused, later } = splitRefusals(rejections, database.name);
  // It is compared once the database has its name.
  const waiting = await rejectedTables(options, name, later, signal);
  const compared = findings.filter(
    (finding) => later.length === 0 || finding.severity !== 'error' || !followsFrom(later, waiting, finding),
  );
  const excused = await rejectedTables(options, name, refused, signal);
  return [
    ...refused.map((rejection) => rejectedFinding(options.name, database.name, rejection)),
    ...compared.map((finding) =>
      finding.severity === 'error' && refused.length > 0 && followsFrom(refused, excused, finding)
        ? { ...finding, acceptable: true as const }
        : finding,
    ),
  ];
}

function rejectedFinding(subject: string, database: string, rejection: Rejection): Finding {
  const { what, error, statement } = rejection;
  const message = `Database "${database}": the server did not accept ${what}: ${error}`;
  return {
    severity: 'error',
    subject,
    code: 'object-rejected',
    message: statement === undefined ? message : `${message}; the statement was: ${statement}`,
    acceptable: true,
  };
}

/** The tables whose data was rejected; facts count a partition's rows as those of the table it is a part of. */
async function rejectedTables(
  options: PostgresOptions,
  database: string,
  rejections: readonly Rejection[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  await using session = await openSession(options, database, signal);
  const partitions = await session.rows(
    z.object({ partition: z.string(), root: z.string() }),
    `SELECT n.nspname || '.' || c.relname AS partition, rn.nspname || '.' || r.relname AS root
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace rn ON rn.oid = r.relnamespace
     WHERE c.relispartition`,
    signal,
  );
  const roots = new Map(partitions.map(({ partition, root }) => [partition, root]));
  return new Set(
    rejections.flatMap(({ tableData }) =>
      tableData === undefined ? [] : [roots.get(tableData) ?? tableData],
    ),
  );
}

/** Rows and values that differ are only excused by a rejection of that very data. */
function followsFrom(
  rejections: readonly Rejection[],
  tables: ReadonlySet<string>,
  { code, message }: Finding,
): boolean {
  switch (code) {
    case 'row-count-differs':
    case 'content-differs':
      return [...tables].some((table) => message.includes(`table ${table} has `));
    case 'large-objects-differ':
      return rejections.some(({ what }) => /BLOB|LARGE OBJECT/.test(what));
    case 'sequence-behind':
      return rejections.some(({ what }) => what.startsWith('SEQUENCE SET'));
    default:
      return true;
  }
}

/**
 * Compares everything live with the capture.
 * @param dumps of the snapshot, where they are at hand: without them a definition in other words is a difference
 */
export async function verifyLive(
  options: PostgresOptions,
  facts: PostgresFacts,
  dumps: DumpSource | undefined,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  await using control = await openControlSession(options, ctx.signal);
  findings.push(...compareGlobals(facts, await readGlobals(control, ctx.signal), options.name));
  for (const expected of facts.databases) {
    const { name } = expected;
    const normal = (): Promise<SchemaFacts | undefined> =>
      dumps === undefined
        ? Promise.resolve(undefined)
        : unlessRefused(() => readNormalSchema(options, control, facts, expected, dumps, ctx), ctx);
    try {
      findings.push(...(await verifyDatabase({ options, control, expected, name }, normal, ctx.signal)));
    } catch (error) {
      if (!(error instanceof TarsError) || sqlState(error) !== '3D000') throw error;
      findings.push({
        severity: 'error',
        subject: options.name,
        code: 'database-missing',
        message: `Database "${name}" is missing`,
      });
    }
  }
  return findings;
}

/** Not every user may create a database; a difference stands then. */
async function unlessRefused<T>(
  read: () => Promise<T>,
  { signal, log }: OperationContext,
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (signal.aborted || error instanceof CorruptionError) throw error;
    log.warn(`Definitions that read differently cannot be compared in detail: ${messageOf(error)}`);
    return undefined;
  }
}
