import type { Finding } from '../../../model/finding.ts';
import { compareSchema, type MakeFinding } from './compare-schema.ts';
import { compareDetails } from './details.ts';
import { compareOperatorUses } from './operator-uses.ts';
import type { ContentFacts, DatabaseFacts, DatabaseProperties, SequenceFacts, TableFacts } from '../facts.ts';

/**
 * Compares a database's content with what was captured. Pure; each finding names its database.
 * @param justRestored the database was made from the capture and has not been used yet
 */
export function compareContent(
  expected: DatabaseFacts,
  found: ContentFacts,
  component: string,
  justRestored: boolean,
): readonly Finding[] {
  const finding = findingFactory(component, expected.name);
  const captured = expected.content;
  const unread = [...(captured.unread ?? []), ...(found.unread ?? [])];
  const excluded = new Set(unread.flatMap(({ table }) => (table === undefined ? [] : [key(table)])));
  const readable = (tables: readonly TableFacts[]): TableFacts[] =>
    tables.filter((table) => !excluded.has(key(table)));
  const isRead = (part: string): boolean =>
    !unread.some(({ what }) => what === part || what === 'the content');
  const parts: readonly (readonly [part: string, compare: () => Finding[]])[] = [
    ['the tables', () => compareTables(readable(captured.tables), readable(found.tables), finding)],
    ['the sequences', () => compareSequences(captured.sequences, found.sequences, finding)],
    ['the large objects', () => compareLargeObjects(captured, found, finding)],
    ['the extensions', () => compareExtensions(captured, found, finding)],
    ['the invalid indexes', () => compareIndexes(captured, found, finding)],
    ['the details', () => compareDetails(captured.details, found.details, finding)],
    ['the operators', () => compareOperatorUses(captured.operatorUses, found.operatorUses, finding)],
  ];
  const findings = [
    ...compareUnread(captured, found, finding),
    ...parts.flatMap(([part, compare]) => (isRead(part) ? compare() : [])),
  ];
  if (!isRead('the schemas')) return findings;
  const schema = compareSchema(captured.schema, found.schema, justRestored, finding);
  return [...findings, ...schema.filter((one) => !findings.some((other) => sameFinding(one, other)))];
}

/** Reports what is not compared; without a finding it would look equal. */
function compareUnread(captured: ContentFacts, found: ContentFacts, finding: MakeFinding): Finding[] {
  const before = captured.unread ?? [];
  const now = (found.unread ?? []).filter(({ what }) => !before.some((other) => other.what === what));
  return [
    ...before.map(({ what, reason }) =>
      finding(
        'warning',
        'not-compared',
        `${what} could not be read at the backup, and is not compared: ${reason}`,
      ),
    ),
    ...now.map(({ what, reason }) => finding('error', 'unreadable', `${what} cannot be read: ${reason}`)),
  ];
}

/** The catalog quotes names where it must. */
const sameFinding = (one: Finding, other: Finding): boolean =>
  one.code === other.code && one.message.replaceAll('"', '') === other.message.replaceAll('"', '');

/** Compares grants, settings and the rest of what `CREATE DATABASE` and `ALTER DATABASE` say. */
export function compareProperties(
  database: string,
  expected: DatabaseProperties,
  found: DatabaseProperties,
  component: string,
): readonly Finding[] {
  const finding = findingFactory(component, database);
  const fixed = (
    ['owner', 'encoding', 'collate', 'ctype', 'localeProvider', 'connectionLimit', 'comment'] as const
  ).flatMap((key) =>
    expected[key] === found[key]
      ? []
      : [
          finding(
            'warning',
            'property-differs',
            `${key} is ${String(found[key])}; ${String(expected[key])} was captured`,
          ),
        ],
  );
  const sets = (['grants', 'settings'] as const).flatMap((key) => {
    const [want, have] = [expected[key], found[key]].map(
      (entries) => new Set(entries.map((entry) => JSON.stringify(entry))),
    );
    const missing = [...(want ?? [])].filter((entry) => have?.has(entry) !== true);
    const added = [...(have ?? [])].filter((entry) => want?.has(entry) !== true);
    if (missing.length === 0 && added.length === 0) return [];
    const text = [...missing.map((m) => `${m} is missing`), ...added.map((a) => `${a} was not captured`)];
    return [finding('warning', `${key}-differ`, `the ${key} differ: ${text.join('; ')}`)];
  });
  return [...fixed, ...sets];
}

function findingFactory(component: string, database: string): MakeFinding {
  return (severity, code, message) => ({
    severity,
    subject: component,
    code,
    message: `Database "${database}": ${message}`,
  });
}

const key = ({ schema, name }: { readonly schema: string; readonly name: string }): string =>
  JSON.stringify([schema, name]);
const label = ({ schema, name }: { readonly schema: string; readonly name: string }): string =>
  `${schema}.${name}`;

function compareTables(
  expected: readonly TableFacts[],
  found: readonly TableFacts[],
  finding: MakeFinding,
): Finding[] {
  const foundByKey = new Map(found.map((table) => [key(table), table]));
  const findings = expected.flatMap((table) => {
    const other = foundByKey.get(key(table));
    foundByKey.delete(key(table));
    if (other === undefined) return [finding('error', 'table-missing', `table ${label(table)} is missing`)];
    return compareTable(table, other, finding);
  });
  const added = [...foundByKey.values()]
    .filter(({ kind }) => kind !== 'extension-table')
    .map((table) => finding('warning', 'table-added', `table ${label(table)} was not captured`));
  return [...findings, ...added];
}

function compareTable(expected: TableFacts, found: TableFacts, finding: MakeFinding): Finding[] {
  if (expected.rows === found.rows && expected.hash === found.hash) return [];
  if (expected.kind === 'materialised-view') {
    // A dump holds the view's query; the restore refreshes it, which shows what a stale one did not.
    return [
      finding('info', 'materialised-view-refreshed', `materialised view ${label(expected)} was refreshed`),
    ];
  }
  if (expected.rows !== found.rows) {
    return [
      finding(
        'error',
        'row-count-differs',
        `table ${label(expected)} has ${found.rows} rows; ${expected.rows} were captured`,
      ),
    ];
  }
  return [
    finding(
      'error',
      'content-differs',
      `table ${label(expected)} has the captured number of rows (${expected.rows}), but other content`,
    ),
  ];
}

function compareSequences(
  expected: readonly SequenceFacts[],
  found: readonly SequenceFacts[],
  finding: MakeFinding,
): Finding[] {
  const foundByKey = new Map(found.map((sequence) => [key(sequence), sequence]));
  return expected.flatMap((sequence) => {
    const other = foundByKey.get(key(sequence));
    if (other === undefined) {
      return [finding('error', 'sequence-missing', `sequence ${label(sequence)} is missing`)];
    }
    if (hasReached(sequence, other)) return [];
    return [
      finding(
        'error',
        'sequence-behind',
        `sequence ${label(sequence)} is at ${other.lastValue}; ${sequence.lastValue} was captured`,
      ),
    ];
  });
}

/** Sequences run on outside of snapshots: at or past the captured value is right, and all there is to know. */
function hasReached(expected: SequenceFacts, found: SequenceFacts): boolean {
  const want = BigInt(expected.lastValue);
  const have = BigInt(found.lastValue);
  if (have === want) return found.isCalled || !expected.isCalled;
  return expected.cycles || (expected.descending ? have < want : have > want);
}

function compareLargeObjects(expected: ContentFacts, found: ContentFacts, finding: MakeFinding): Finding[] {
  const [want, have] = [expected.largeObjects, found.largeObjects];
  if (want.count === have.count && want.hash === have.hash) return [];
  return [
    finding(
      'error',
      'large-objects-differ',
      `${have.count} large objects of ${have.sizeBytes} bytes differ from the captured ${want.count} of ${want.sizeBytes} bytes`,
    ),
  ];
}

/** Every database has plpgsql from the start. */
function compareExtensions(expected: ContentFacts, found: ContentFacts, finding: MakeFinding): Finding[] {
  const present = new Map(found.extensions.map((extension) => [extension.name, extension]));
  const findings = expected.extensions.flatMap(({ name, version, schema }) => {
    const other = present.get(name);
    present.delete(name);
    if (other === undefined) return [finding('error', 'extension-missing', `extension ${name} is missing`)];
    const changes = [
      ...(other.version === version ? [] : [`is ${other.version}; ${version} was captured`]),
      ...(schema === undefined || other.schema === schema
        ? []
        : [`is in schema ${String(other.schema)}; it was captured in ${schema}`]),
    ];
    return changes.map((change) => finding('warning', 'extension-version', `extension ${name} ${change}`));
  });
  const added = [...present.keys()]
    .filter((name) => name !== 'plpgsql')
    .map((name) => finding('warning', 'extension-added', `extension ${name} was not captured`));
  return [...findings, ...added];
}

function compareIndexes(expected: ContentFacts, found: ContentFacts, finding: MakeFinding): Finding[] {
  const known = new Set(expected.invalidIndexes.map(key));
  return found.invalidIndexes
    .filter((index) => !known.has(key(index)))
    .map((index) => finding('error', 'index-invalid', `index ${label(index)} is invalid`));
}
