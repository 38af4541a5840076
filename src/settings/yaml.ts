import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type YAMLParseError,
} from 'yaml';
import { ConfigurationError } from '../model/errors.ts';

/** A `tars.yaml` that is YAML, whatever it says. */
interface YamlText {
  readonly value: unknown;
  readonly document: Document.Parsed;
  readonly lines: LineCounter;
}

/**
 * Reads one document, with aliases and merge keys (`<<: *name`) as in a Compose file.
 * @throws ConfigurationError naming `path` and the line, never a value: it may be a password
 */
export function readYaml(text: string, path: string): YamlText {
  const lines = new LineCounter();
  // The parser's own messages quote the lines concerned.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const [syntaxError] = document.errors;
  if (syntaxError) throw notYaml(syntaxError, text, lines, path);
  return { value: valueOf(document, lines, path), document, lines };
}

function notYaml(
  { code, pos, message }: Pick<YAMLParseError, 'code' | 'pos' | 'message'>,
  text: string,
  lines: LineCounter,
  path: string,
): ConfigurationError {
  const { line, col } = lines.linePos(pos[0]);
  const refuse = (what: string, hint: string): ConfigurationError =>
    new ConfigurationError(`${path} ${what}`, { hint });
  if (code === 'MULTIPLE_DOCS') {
    return refuse(
      `has a second document, which begins in line ${line}`,
      'Keep one document: remove that line (---), and everything that does not belong to tars.yaml.',
    );
  }
  if (code === 'DUPLICATE_KEY') {
    return refuse(
      `has a key twice: line ${line}, column ${col} repeats a key of the same section`,
      'Remove one of the two.',
    );
  }
  const variable = /\$\{\w+\}/.test(text.split('\n')[line - 1] ?? '');
  return refuse(
    `is not valid YAML: line ${line}, column ${col}: ${message}`,
    variable
      ? 'Correct that line; inside { } and [ ] a variable needs quotes: "${NAME}".'
      : 'Correct that line; indent with spaces, and quote values with special characters.',
  );
}

/** @throws ConfigurationError for aliases that lead nowhere, into themselves or to an endless text, and wrong merges */
function valueOf(document: Document.Parsed, lines: LineCounter, path: string): unknown {
  visit(document, {
    Pair(_key, { key, value }) {
      const { line } = lines.linePos((isScalar(key) ? key.range?.[0] : undefined) ?? 0);
      if (isScalar(key) && key.value === '__proto__')
        throw new ConfigurationError(`${path}, line ${line}: __proto__ is not a key that tars knows`);
      if (isScalar(key) && key.source === '<<' && !isMergeable(value, document)) {
        throw new ConfigurationError(
          `${path}, line ${line}: << merges a mapping, and this is not a mapping`,
          {
            hint: 'Give it an alias of a mapping, such as <<: *name, or a list of them.',
          },
        );
      }
    },
    Alias(_key, alias, ancestors) {
      const target = alias.resolve(document);
      if (target !== undefined && !ancestors.includes(target)) return;
      const { line } = lines.linePos(alias.range?.[0] ?? 0);
      const what =
        target === undefined ? 'has no anchor before it' : 'refers to the section that contains it';
      // Its name is not said: it may be a password that begins with an asterisk.
      throw new ConfigurationError(`${path}, line ${line}: the alias there (*…) ${what}`, {
        hint: 'If it is not an alias but text that begins with *, quote it.',
      });
    },
  });
  try {
    return document.toJS() as unknown;
  } catch (cause) {
    throw new ConfigurationError(`${path} repeats content through aliases too often`, {
      hint: 'Write the values out instead.',
      cause,
    });
  }
}

/** A mapping, an alias of one, or a list of these. */
function isMergeable(value: unknown, document: Document.Parsed): boolean {
  const target = isAlias(value) ? value.resolve(document) : value;
  if (isSeq(target)) return target.items.every((item) => !isSeq(item) && isMergeable(item, document));
  // An alias of nothing is refused as such.
  return target === undefined || isMap(target);
}
