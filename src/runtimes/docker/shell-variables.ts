import { parse } from 'yaml';
import { z } from 'zod';
import { interpolate, variablesIn, type Variables } from './variables.ts';

/** What tells which variables of Compose files came from a shell when the containers were created. */
export interface VariableUse {
  /** Of the Compose files. */
  readonly texts: readonly string[];
  /** From `.env`, or the files given with `--env-file`. */
  readonly defined: Variables;
  /** Of the containers, by service. */
  readonly environments: ReadonlyMap<string, Variables>;
}

/** Every shell has them, and on a new machine they are right as well. */
const everywhere: ReadonlySet<string> = new Set([
  'PWD',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'PATH',
  'UID',
  'GID',
]);

const fileSchema = z.object({
  services: z.record(z.string(), z.object({ environment: z.unknown() }).partial().nullable()).nullish(),
});

/**
 * Names of variables that only a shell had: those without a default that no file defines, and those with a default
 * where a container has another value. Without them, Compose does not create these containers again.
 */
export function shellVariables({ texts, defined, environments }: VariableUse): readonly string[] {
  const names = new Set<string>();
  const undefinedIn = (text: string, filter: (hasDefault: boolean) => boolean): void => {
    for (const { name, hasDefault } of variablesIn(text))
      if (defined[name] === undefined && !everywhere.has(name) && filter(hasDefault)) names.add(name);
  };
  for (const text of texts) {
    const value = parsed(text);
    for (const string of stringsOf(value)) undefinedIn(string, (hasDefault) => !hasDefault);
    const file = fileSchema.safeParse(value);
    for (const [service, body] of Object.entries((file.success ? file.data.services : undefined) ?? {})) {
      const actual = environments.get(service);
      if (actual === undefined) continue;
      for (const [key, string] of entriesOf(body?.environment))
        if (differs(string, defined, actual[key])) undefinedIn(string, () => true);
    }
  }
  return [...names].sort();
}

function differs(text: string, defined: Variables, actual: string | undefined): boolean {
  try {
    return interpolate(text, defined) !== actual;
  } catch {
    // It must be set, so something has set it.
    return true;
  }
}

function parsed(text: string): unknown {
  try {
    return parse(text, { merge: true });
  } catch {
    // What Compose itself cannot read says nothing; other checks name the file.
    return undefined;
  }
}

function* stringsOf(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (typeof value === 'object' && value !== null)
    for (const item of Object.values(value)) yield* stringsOf(item);
}

/** A list of `KEY=value`, or a map. A key alone takes its value from the shell. */
function entriesOf(environment: unknown): readonly (readonly [string, string])[] {
  if (Array.isArray(environment))
    return environment.flatMap((entry: unknown) => {
      if (typeof entry !== 'string') return [];
      const at = entry.indexOf('=');
      return at < 0
        ? [[entry, `\${${entry}}`] as const]
        : [[entry.slice(0, at), entry.slice(at + 1)] as const];
    });
  if (typeof environment !== 'object' || environment === null) return [];
  return Object.entries(environment).map(([key, value]) => [
    key,
    value === null ? `\${${key}}` : String(value),
  ]);
}
