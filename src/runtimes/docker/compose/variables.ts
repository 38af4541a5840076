import type { Environment } from '../../../model/environment.ts';
import { ConfigurationError } from '../../../model/errors.ts';

/** Environment as {@link parseEnvFile} and Compose read them, a line each. */
export const envFileText = (variables: Readonly<Record<string, string>>): string =>
  Object.entries(variables)
    .map(([name, value]) => `${name}=${quoted(value)}\n`)
    .join('');

function quoted(value: string): string {
  if (/^[\w./:@%+,-]*$/.test(value)) return value;
  if (!/['\r\n]/.test(value)) return `'${value}'`;
  const escaped = value
    .replaceAll(/[\\"$]/g, '\\$&')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r');
  return `"${escaped}"`;
}

/** An environment file as Compose reads it: `export`, quotes, comments, values over several lines in quotes. */
export function parseEnvFile(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  const assignment =
    /^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*=[ \t]*(?:"((?:\\[\s\S]|[^"\\])*)"|'([^']*)'|([^\r\n]*))/gm;
  for (const [, name = '', double, single, plain] of text.matchAll(assignment)) {
    const unquoted = double?.replaceAll(/\\([\s\S])/g, (_, char: string) => escapes[char] ?? char) ?? single;
    variables[name] = unquoted ?? (plain ?? '').replace(/(^|\s+)#.*$/, '').trim();
  }
  return variables;
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/**
 * Puts variables into a string of a Compose file: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}`,
 * `${NAME:?message}`, each also without the colon, nested; `$$` is a dollar sign.
 * @throws ConfigurationError for `${NAME:?message}` without a value
 */
export function interpolate(text: string, variables: Environment): string {
  let result = '';
  for (let at = 0; at < text.length;) {
    const rest = text.slice(at);
    const plain = /^\$([A-Za-z_]\w*)/.exec(rest);
    if (rest.startsWith('$$')) {
      result += '$';
      at += 2;
    } else if (plain !== null) {
      result += variables[plain[1] ?? ''] ?? '';
      at += plain[0].length;
    } else if (rest.startsWith('${')) {
      const end = closingBrace(text, at + 2);
      result += expand(text.slice(at + 2, end), variables);
      at = end + 1;
    } else {
      result += text.charAt(at);
      at += 1;
    }
  }
  return result;
}

/** As {@link interpolate}; undefined when a variable must be set and is not. */
export function textOf(text: string, variables: Environment): string | undefined {
  try {
    return interpolate(text, variables);
  } catch {
    return undefined;
  }
}

/** The variables that {@link interpolate} would look up, nested ones too, and whether a default stands in for each. */
export function variablesIn(
  text: string,
): readonly { readonly name: string; readonly hasDefault: boolean }[] {
  const found: { name: string; hasDefault: boolean }[] = [];
  for (let at = 0; at < text.length;) {
    const plain = /^\$([A-Za-z_]\w*)/.exec(text.slice(at));
    if (text.startsWith('$$', at)) at += 2;
    else if (plain !== null) {
      found.push({ name: plain[1] ?? '', hasDefault: false });
      at += plain[0].length;
    } else if (text.startsWith('${', at)) {
      const end = closingBrace(text, at + 2);
      const [, name = '', operator, operand = ''] = expressionPattern.exec(text.slice(at + 2, end)) ?? [];
      // After `?` stands a message.
      const nested = operator === '?' ? [] : variablesIn(operand);
      if (name !== '') found.push({ name, hasDefault: operator === '-' || operator === '+' }, ...nested);
      at = end + 1;
    } else at += 1;
  }
  return found;
}

const expressionPattern = /^([A-Za-z_]\w*)(?::?([-+?])([\s\S]*))?$/;

function closingBrace(text: string, from: number): number {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    if (text.startsWith('${', at)) depth += 1;
    else if (text.charAt(at) === '}') depth -= 1;
    if (depth === 0) return at;
  }
  return text.length;
}

function expand(expression: string, variables: Environment): string {
  const match = /^([A-Za-z_]\w*)(?:(:?)([-+?])([\s\S]*))?$/.exec(expression);
  if (match === null) return '';
  const [, name = '', colon, operator, operand = ''] = match;
  const value = variables[name];
  const isSet = colon === ':' ? value !== undefined && value !== '' : value !== undefined;
  switch (operator) {
    case '-':
      return isSet ? (value ?? '') : interpolate(operand, variables);
    case '+':
      return isSet ? interpolate(operand, variables) : '';
    case '?':
      if (isSet) return value ?? '';
      throw new ConfigurationError(`The Compose file needs the variable ${name}, which is not set`, {
        hint: 'Set it, or put it into the file .env beside the Compose file.',
      });
    case undefined:
    default:
      return value ?? '';
  }
}
