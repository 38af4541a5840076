import type { Environment } from '../../../model/environment.ts';
import { z } from 'zod';
import type { ShellVariable } from '../../../ports/provisioner.ts';
import { sightingsOf, type SeenContainer, type Sighting } from '../discovery/sightings.ts';
import type { ComposeText } from './includes.ts';
import { textOf, variablesIn } from './variables.ts';

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

const fileSchema = z.object({ services: z.record(z.string(), z.unknown()).nullish() });

/** A string of a Compose file, with what the container has there. */
interface SeenString extends Sighting {
  readonly variables: Environment;
}

/**
 * Environment that only a shell had: those without a default that no file defines, and those with a default where a
 * container has another value. Without them, Compose does not create these containers again.
 * @param containers by service
 */
export function shellVariables(
  texts: readonly ComposeText[],
  containers: ReadonlyMap<string, SeenContainer>,
): readonly ShellVariable[] {
  const all = texts.flatMap((text) => sightingsIn(text, containers));
  const isRight = ({ template, actual, variables }: SeenString): boolean =>
    textOf(template, variables) === actual;
  const sightings = all.filter((sighting) => !isRight(sighting));
  const values = valuesFrom(sightings);
  const names = new Set(values.keys());
  // What files alone make right, no shell had.
  const unset = new Set(
    all
      .filter(isRight)
      .flatMap(({ template, variables }) => unknownIn(template, variables).map(({ name }) => name)),
  );
  for (const { value, variables } of texts)
    for (const string of stringsOf(value))
      for (const { name, hasDefault } of unknownIn(string, variables))
        if (!hasDefault && !unset.has(name)) names.add(name);
  for (const { template, actual, variables } of sightings)
    if (textOf(template, { ...variables, ...Object.fromEntries(values) }) !== actual)
      for (const { name } of unknownIn(template, variables)) names.add(name);
  return [...names].sort().map((name) => ({ name, value: values.get(name) }));
}

function sightingsIn(
  { value, variables }: ComposeText,
  containers: ReadonlyMap<string, SeenContainer>,
): readonly SeenString[] {
  const file = fileSchema.safeParse(value);
  return Object.entries((file.success ? file.data.services : undefined) ?? {}).flatMap(([service, body]) => {
    const seen = containers.get(service);
    if (seen === undefined) return [];
    return sightingsOf(body, seen, variables).map((sighting) => ({ ...sighting, variables }));
  });
}

/** One that is found makes others known that stand beside it. */
function valuesFrom(sightings: readonly SeenString[]): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (let before = -1; before !== values.size;) {
    before = values.size;
    for (const { template, actual, variables } of sightings) {
      const known = { ...variables, ...Object.fromEntries(values) };
      if (textOf(template, known) === actual) continue;
      const unknown = unknownIn(template, known);
      const without = unknown.filter(({ hasDefault }) => !hasDefault);
      // Those with a default may have been left to it.
      const names = new Set((without.length === 0 ? unknown : without).map(({ name }) => name));
      if (without.length > 0 && names.size > 1) continue;
      const found = [...names]
        .map((name) => [name, valueOf(name, template, actual, known)] as const)
        .find(([, value]) => value !== undefined);
      if (found?.[1] !== undefined) values.set(found[0], found[1]);
    }
  }
  return values;
}

/** Stands for the value that is looked for; no string of a container holds it. */
const mark = '\0';

function valueOf(name: string, template: string, actual: string, known: Environment): string | undefined {
  const parts = textOf(template, { ...known, [name]: mark })?.split(mark) ?? [];
  if (parts.length < 2) return undefined;
  const length = (actual.length - parts.join('').length) / (parts.length - 1);
  if (length < 0 || !Number.isInteger(length)) return undefined;
  const from = parts[0]?.length ?? 0;
  const value = actual.slice(from, from + length);
  return textOf(template, { ...known, [name]: value }) === actual ? value : undefined;
}

const unknownIn = (text: string, variables: Environment): ReturnType<typeof variablesIn> =>
  variablesIn(text).filter(({ name }) => variables[name] === undefined && !everywhere.has(name));

function* stringsOf(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (typeof value === 'object' && value !== null)
    for (const item of Object.values(value)) yield* stringsOf(item);
}
