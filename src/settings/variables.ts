import type { z } from 'zod';
import type { Environment } from '../model/environment.ts';
import { ConfigurationError } from '../model/errors.ts';
import type { settingsSchema } from './schema.ts';

/**
 * Replaces `${NAME}` in every string of `value`; `$${` stays `${`.
 * @throws ConfigurationError naming `path` and a variable that is not set
 */
export function substitute(value: unknown, path: string, env: Environment): unknown {
  if (typeof value === 'string') {
    return value.replace(/(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (whole, escaped: string, name: string) => {
      if (escaped !== '') return whole.slice(1);
      const replacement = env[name];
      if (replacement === undefined) {
        throw new ConfigurationError(`${path} uses \${${name}}, which is not set in the environment`, {
          hint: `Set it, or write $\${${name}} if you mean the text itself.`,
        });
      }
      return replacement;
    });
  }
  if (Array.isArray(value)) return value.map((item) => substitute(item, path, env));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, substitute(item, path, env)]));
  }
  return value;
}

type Schema = ReturnType<typeof settingsSchema>;

/**
 * Variables are text. Where a number or a truth value belongs, the text of one is read as that.
 * @param template `value` before variables were replaced
 */
export function parseTyped(
  schema: Schema,
  value: unknown,
  template: unknown,
): ReturnType<Schema['safeParse']> {
  const first = schema.safeParse(value);
  if (first.success) return first;
  const typed = structuredClone(value);
  let changed = false;
  for (const issue of first.error.issues) {
    const written = valueAt(template, issue.path);
    const text = valueAt(value, issue.path);
    if (typeof text !== 'string' || written === text) continue;
    const read = readAs(issue, text);
    const parent = valueAt(typed, issue.path.slice(0, -1));
    if (read === undefined || typeof parent !== 'object' || parent === null) continue;
    changed = Reflect.set(parent, issue.path.at(-1) ?? '', read) || changed;
  }
  return changed ? schema.safeParse(typed) : first;
}

function readAs(issue: z.core.$ZodIssue, text: string): number | boolean | undefined {
  if (issue.code === 'invalid_value')
    return typeof issue.values[0] === 'number' ? wholeNumber(text) : undefined;
  if (issue.code !== 'invalid_type') return undefined;
  if (issue.expected === 'boolean') return text === 'true' || (text === 'false' ? false : undefined);
  return ['number', 'int'].includes(issue.expected) ? wholeNumber(text) : undefined;
}

const wholeNumber = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (Reflect.get(at, key) as unknown) : undefined),
    value,
  );
}
