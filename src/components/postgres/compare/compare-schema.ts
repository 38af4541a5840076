import type { Finding } from '../../../model/finding.ts';
import type { SchemaFacts, SchemaKind } from '../facts.ts';

/** True for a finding about a definition that reads otherwise; those about rows and grants are not among them. */
export const isReworded = ({ code }: Finding): boolean =>
  code.endsWith('-differs') &&
  !code.endsWith('-access-differs') &&
  !['content-differs', 'row-count-differs', 'property-differs', 'detail-differs'].includes(code);

/** Makes a finding about the database that is compared. */
export type MakeFinding = (severity: Finding['severity'], code: string, message: string) => Finding;

/** Findings of one kind and one code beyond this many are counted, not named. */
const namedMax = 20;

/**
 * Compares what the schemas hold. A definition that reads otherwise where it has been restored just now
 * (`justRestored`) is what the server made of the captured text, and a mere warning on another major version.
 */
export function compareSchema(
  expected: SchemaFacts | undefined,
  found: SchemaFacts | undefined,
  justRestored: boolean,
  finding: MakeFinding,
): Finding[] {
  if (expected === undefined || found === undefined) {
    const message =
      'the snapshot does not describe its schemas: views, constraints and the like are not compared';
    return [finding('info', 'schema-not-captured', message)];
  }
  const sameMajor = expected.serverMajor === found.serverMajor;
  const context: Context = { finding, differs: justRestored ? 'info' : sameMajor ? 'error' : 'warning' };
  if ('summed' in expected) return 'summed' in found ? compareSums(expected, found, context) : [];
  return 'listed' in found ? compareListed(expected.listed, found.listed, context) : [];
}

interface Context {
  readonly finding: MakeFinding;
  readonly differs: Finding['severity'];
}

type Summed = Extract<SchemaFacts, { summed: unknown }>;

function compareSums(expected: Summed, found: Summed, { finding, differs }: Context): Finding[] {
  const foundByKind = new Map(found.summed.map((sum) => [sum.kind, sum]));
  const isNew = ({ kind }: { readonly kind: string }): boolean =>
    !expected.summed.some((sum) => sum.kind === kind);
  const added = found.summed.filter(isNew).map(({ kind }) => ({ kind, count: 0, hash: '' }));
  return [...expected.summed, ...added].flatMap(({ kind, count, hash }) => {
    const other = foundByKind.get(kind) ?? { count: 0, hash: '' };
    const what = `${words(kind)} objects`;
    if (other.count < count) {
      return [
        finding('error', `${kind}-missing`, `there are ${other.count} ${what}; ${count} were captured`),
      ];
    }
    if (other.count > count) {
      return [
        finding('warning', `${kind}-added`, `there are ${other.count} ${what}; ${count} were captured`),
      ];
    }
    if (other.hash === hash) return [];
    return [
      finding(
        differs,
        `${kind}-differs`,
        `there are ${count} ${what} as captured, but they are defined differently`,
      ),
    ];
  });
}

interface Difference {
  readonly severity: Finding['severity'];
  readonly code: string;
  readonly name: string;
  readonly message: string;
}

function compareListed(
  expected: readonly SchemaKind[],
  found: readonly SchemaKind[],
  { finding, differs }: Context,
): Finding[] {
  const kinds = new Set([...expected, ...found].map(({ kind }) => kind));
  const objectsOf = (all: readonly SchemaKind[], wanted: string): SchemaKind['objects'] =>
    all.find(({ kind }) => kind === wanted)?.objects ?? [];
  const differences = [...kinds].map((kind) =>
    compareKind(kind, objectsOf(expected, kind), objectsOf(found, kind), differs),
  );
  return withoutParts(differences.flat()).flatMap((group) => named(group, finding));
}

function compareKind(
  kind: string,
  expected: SchemaKind['objects'],
  found: SchemaKind['objects'],
  differs: Finding['severity'],
): Difference[] {
  const foundByName = new Map(found.map((object) => [object[0], object]));
  const label = words(kind);
  const differences: Difference[] = [];
  for (const [name, definition, access] of expected) {
    const other = foundByName.get(name);
    foundByName.delete(name);
    const add = (severity: Finding['severity'], what: string, message: string): number =>
      differences.push({ severity, code: `${kind}-${what}`, name, message: `${label} ${name} ${message}` });
    if (other === undefined) {
      add('error', 'missing', 'is missing');
      continue;
    }
    if (other[1] !== definition) add(differs, 'differs', 'is defined differently from the captured one');
    if (other[2] !== access)
      add(differs, 'access-differs', 'has an owner or grants that differ from the captured ones');
  }
  for (const name of foundByName.keys()) {
    differences.push({
      ...{ severity: 'warning', code: `${kind}-added`, name },
      message: `${label} ${name} was not captured`,
    });
  }
  return differences;
}

/** What is `… on` a relation that is missing or new as a whole is not named beside it. Grouped by code. */
function withoutParts(differences: readonly Difference[]): Difference[][] {
  const whole = (suffix: string): Set<string> =>
    new Set(
      differences.flatMap(({ code, name }) =>
        relationCode.test(code) && code.endsWith(suffix) ? [name] : [],
      ),
    );
  const gone = { missing: whole('-missing'), added: whole('-added') };
  const groups = new Map<string, Difference[]>();
  for (const difference of differences) {
    const { code, name } = difference;
    const relation = / on (.*)$/s.exec(name)?.[1];
    const wholes = code.endsWith('-missing')
      ? gone.missing
      : code.endsWith('-added')
        ? gone.added
        : undefined;
    if (relation !== undefined && wholes?.has(relation) === true) continue;
    const group = groups.get(code);
    if (group === undefined) groups.set(code, [difference]);
    else group.push(difference);
  }
  return [...groups.values()];
}

const relationCode = /^(table|view|materialized-view|foreign-table)-(missing|added)$/;

function named(group: readonly Difference[], finding: MakeFinding): Finding[] {
  const findings = group
    .slice(0, namedMax)
    .map(({ severity, code, message }) => finding(severity, code, message));
  const [first] = group;
  const more = group.length - namedMax;
  if (first === undefined || more <= 0) return findings;
  return [...findings, finding(first.severity, first.code, `${more} more like: ${first.message}`)];
}

const words = (kind: string): string => kind.replaceAll('-', ' ');
