import { TarsError } from '../../../model/errors.ts';
import type { Finding } from '../../../model/finding.ts';
import { counted } from '../../../model/plural.ts';
import { CollectionDigester } from '../digest.ts';
import type { CollectionFacts, Migration, TenantFacts } from '../facts.ts';
import { encodeMetadata } from '../record.ts';
import { PersistDirectory } from './persist-directory.ts';
import type { TableProblem } from './table-check.ts';
import { sqliteFileName, type StoredCollection } from './tables.ts';

/** What a whole persist directory holds, and what is wrong with it. */
export interface Inspection {
  readonly migrations: readonly Migration[];
  readonly tenants: TenantFacts[];
  /** Errors: records without a vector, torn files. Warnings: vectors nobody asks for. */
  readonly problems: readonly Finding[];
}

const examplesMax = 3;

/** Counts problems per code, with a few examples, so that a ruined collection yields a few lines. */
class Tally {
  readonly #counts = new Map<string, { count: number; readonly examples: string[] }>();

  add(code: string, id: string): void {
    const entry = this.#counts.get(code) ?? { count: 0, examples: [] };
    entry.count += 1;
    if (entry.examples.length < examplesMax) entry.examples.push(JSON.stringify(id));
    this.#counts.set(code, entry);
  }

  findings(subject: string): Finding[] {
    return [...this.#counts].map(([code, { count, examples }]) => ({
      severity: code === 'vector-without-record' ? 'warning' : 'error',
      subject,
      code,
      message: `${subject}: ${count} × ${code}, such as ${examples.join(', ')}`,
    }));
  }
}

/**
 * Reads every record of every collection once.
 * @param subject what findings are about, such as the component's name
 * @throws TarsError when the directory cannot be read at all, InterruptedError via `signal`
 */
export async function inspectDirectory(
  path: string,
  subject: string,
  signal: AbortSignal,
): Promise<Inspection> {
  using directory = new PersistDirectory(path);
  try {
    const problems: Finding[] = directory.quickCheck().map((problem) => tableProblem(subject, problem));
    problems.push(...lostTables(subject, directory.countIndexesWithoutTables()));
    const tenants: TenantFacts[] = directory.tenants().map(({ name, databases }) => ({
      name,
      databases: databases.map((database) => ({ name: database, collections: [] })),
    }));
    for (const collection of directory.collections()) {
      const facts = await inspectCollection(directory, collection, subject, problems, signal);
      const tenant = tenants.find(({ name }) => name === collection.tenant);
      tenant?.databases.find(({ name }) => name === collection.database)?.collections.push(facts);
    }
    return { migrations: directory.migrations(), tenants, problems };
  } catch (cause) {
    if (cause instanceof TarsError || signal.aborted) throw cause;
    throw new TarsError('corruption', `Cannot read the Chroma directory ${path}: ${String(cause)}`, {
      cause,
    });
  }
}

/** A server starts on an empty file as on a new directory, and what was there stays lost. */
function lostTables(subject: string, indexes: number): readonly Finding[] {
  if (indexes === 0) return [];
  const message = `${subject}: ${tablesLost(indexes)}`;
  return [{ severity: 'error', subject, code: 'tables-lost', message }];
}

/** What is wrong where {@link PersistDirectory.countIndexesWithoutTables} finds any. */
export function tablesLost(indexes: number): string {
  return `${sqliteFileName} holds no tables, but the directory has ${counted(indexes, 'vector index', 'vector indexes')}: the tables are lost`;
}

/** Damage of the full-text index says nothing about the copy: it is made of the documents. */
function tableProblem(subject: string, { message, fullTextOnly }: TableProblem): Finding {
  return {
    severity: fullTextOnly ? 'warning' : 'error',
    subject,
    code: fullTextOnly ? 'fulltext-index-odd' : 'sqlite-damaged',
    message: `${subject}: ${sqliteFileName}: ${message}`,
  };
}

async function inspectCollection(
  directory: PersistDirectory,
  collection: StoredCollection,
  component: string,
  problems: Finding[],
  signal: AbortSignal,
): Promise<CollectionFacts> {
  const subject = `${component}/${collection.tenant}/${collection.database}/${collection.name}`;
  const tally = new Tally();
  const digester = new CollectionDigester();
  try {
    using opened = await directory.open(collection, (code, id) => tally.add(code, id), signal);
    for await (const record of opened.records(signal)) {
      digester.add(record);
      if (record.vector === null) tally.add('record-without-vector', record.id);
      else if (collection.dimension !== null && record.vector.length !== collection.dimension) {
        tally.add('dimension-differs', record.id);
      }
    }
    for (const id of opened.unreadVectors()) {
      if (opened.record(id) === undefined) tally.add('vector-without-record', id);
    }
  } catch (error) {
    if (!(error instanceof TarsError) || error.code !== 'corruption') throw error;
    problems.push({ severity: 'error', subject, code: 'vector-index-damaged', message: error.message });
  }
  problems.push(...tally.findings(subject));
  return {
    ...digester.result(),
    id: collection.id,
    name: collection.name,
    dimension: collection.dimension,
    metadata: collection.metadata === null ? null : encodeMetadata(collection.metadata),
    configuration: collection.configuration,
    schema: collection.schema,
    space: collection.space,
    spaceProven: true,
  };
}
