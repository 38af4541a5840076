import { isCollection, isNode, isPair, isScalar, type Document, type LineCounter } from 'yaml';
import type { z } from 'zod';

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** One sentence for each issue, in the order of the file, led by the line it concerns. Never a value: it may be secret. */
export function describeIssues(
  issues: readonly Issue[],
  kinds: readonly string[],
  document: Document,
  lines: LineCounter,
): readonly string[] {
  const found = issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ path: [...issue.path, key], what: 'is not a key that tars knows' }))
      : [{ path: issue.path, what: describe(issue, kinds) }],
  );
  return found
    .map(({ path, what }) => ({ line: lineOf(path, document, lines), text: `${nameOf(path)} ${what}` }))
    .sort((a, b) => a.line - b.line)
    .map(({ line, text }) => `line ${line}: ${text}`);
}

function describe(issue: Issue, kinds: readonly string[]): string {
  if (issue.code === 'invalid_union') return `must be one of ${kinds.join(', ')}`;
  if (issue.code === 'invalid_key')
    return 'is not a valid name: use lower-case letters, digits, - and _, beginning with a letter or digit';
  if (issue.message.endsWith('received undefined')) return 'is missing';
  if (issue.code === 'invalid_type')
    return expectations[issue.expected] ?? `must be of type ${issue.expected}`;
  return `is wrong: ${issue.message.replace(/^Invalid input: /, '')}`;
}

/** What each type that zod names asks of the file. */
const expectations: Readonly<Record<string, string>> = {
  string: 'must be text: write it in quotes',
  number: 'must be a number without quotes',
  int: 'must be a whole number',
  boolean: 'must be true or false',
  array: 'must be a list: [a, b], or one item a line, each after a hyphen',
  object: 'must be a section: keys with values, each on a line of its own',
  record: 'must be a section: keys with values, each on a line of its own',
};

const nameOf = (path: Path): string => (path.length === 0 ? 'the file' : path.map(String).join('.'));

/** Where the path, or as much of it as the file has, begins. */
function lineOf(path: Path, document: Document, lines: LineCounter): number {
  for (let depth = path.length; depth > 0; depth--) {
    const offset = offsetOf(path.slice(0, depth), document);
    if (offset !== undefined) return lines.linePos(offset).line;
  }
  return 1;
}

/** The offset of a key in its mapping, or of an item in its list. */
function offsetOf(path: Path, document: Document): number | undefined {
  const parent: unknown = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  const last = path.at(-1);
  if (!isCollection(parent)) return undefined;
  for (const [position, item] of parent.items.entries()) {
    if (isPair(item)) {
      if (isScalar(item.key) && item.key.value === last) return item.key.range?.[0];
    } else if (position === last && isNode(item)) return item.range?.[0];
  }
  return undefined;
}
