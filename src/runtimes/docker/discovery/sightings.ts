import type { Environment } from '../../../model/environment.ts';
import { z } from 'zod';
import type { ProjectContainer } from '../project/project.ts';
import { textOf } from '../compose/variables.ts';

/** What a container shows of the strings it was created from. */
export type SeenContainer = Pick<
  ProjectContainer,
  'name' | 'image' | 'environment' | 'argv' | 'labels' | 'mounts' | 'publishedPorts'
>;

/** A string of a Compose file, and what became of it in a container. */
export interface Sighting {
  readonly template: string;
  readonly actual: string;
}

const listOrMap = z.unknown();
const bodySchema = z
  .object({
    ...{ image: z.string(), container_name: z.string(), environment: listOrMap, labels: listOrMap },
    ...{ command: z.unknown(), ports: z.array(z.unknown()), volumes: z.array(z.unknown()) },
  })
  .partial();

/** Pairs of what the file says of a service, and what its container has: what both name alike, where it is plain. */
export function sightingsOf(body: unknown, seen: SeenContainer, variables: Environment): readonly Sighting[] {
  const parsed = bodySchema.safeParse(body);
  if (!parsed.success) return [];
  const { image, container_name: name, environment, labels, command, ports, volumes } = parsed.data;
  const pairs: (readonly [string | undefined, string | undefined])[] = [
    [image, seen.image],
    [name, seen.name],
    ...entriesOf(environment).map(([key, text]) => [text, seen.environment[key]] as const),
    ...entriesOf(labels).map(([key, text]) => [text, seen.labels[key]] as const),
    ...wordsOf(command, seen.argv),
    ...(ports ?? []).flatMap((port) => portOf(port, seen, variables)),
    ...(volumes ?? []).map((volume) => volumeOf(volume, seen, variables)),
  ];
  return pairs.flatMap(([template, actual]) =>
    template === undefined || actual === undefined ? [] : [{ template, actual }],
  );
}

/** A list of `KEY=value`, or a map. A key alone takes its value from the shell. */
function entriesOf(list: unknown): readonly (readonly [string, string])[] {
  if (Array.isArray(list))
    return list.flatMap((entry: unknown) => {
      if (typeof entry !== 'string') return [];
      const at = entry.indexOf('=');
      return at < 0
        ? [[entry, `\${${entry}}`] as const]
        : [[entry.slice(0, at), entry.slice(at + 1)] as const];
    });
  if (typeof list !== 'object' || list === null) return [];
  return Object.entries(list).map(([key, value]) => [key, value === null ? `\${${key}}` : String(value)]);
}

/** A container's command is the end of what it runs. One string with quotes is the shell's to take apart. */
function wordsOf(command: unknown, argv: readonly string[]): readonly (readonly [string, string])[] {
  const words =
    typeof command === 'string' && !/['"\\]/.test(command)
      ? splitOutside(command, /\s/).filter((word) => word !== '')
      : Array.isArray(command)
        ? command.map(String)
        : [];
  const run = argv.slice(-words.length);
  return run.length < words.length ? [] : words.map((word, i) => [word, run[i] ?? ''] as const);
}

function portOf(
  port: unknown,
  { publishedPorts }: SeenContainer,
  variables: Environment,
): readonly (readonly [string, string])[] {
  const long = z.object({ target: z.coerce.string(), published: z.coerce.string() }).safeParse(port);
  const parts = typeof port === 'string' ? splitOutside(port, /:/) : [];
  const target = long.success ? long.data.target : parts.at(-1);
  const published = long.success ? long.data.published : parts.at(-2);
  if (target === undefined || published === undefined) return [];
  const inside = textOf(target, variables)?.replace(/\/.*$/, '');
  const found = publishedPorts.get(Number(inside));
  if (found === undefined) return [];
  const host = parts.at(-3);
  return [[published, String(found.port)], ...(host === undefined ? [] : [[host, found.host] as const])];
}

/** Only a directory of the machine shows its path; one that is written relative to the project shows another. */
function volumeOf(
  volume: unknown,
  { mounts }: SeenContainer,
  variables: Environment,
): readonly [string | undefined, string | undefined] {
  const long = z.object({ source: z.string(), target: z.string() }).safeParse(volume);
  const parts = typeof volume === 'string' ? splitOutside(volume, /:/) : [];
  const [source, target] = long.success ? [long.data.source, long.data.target] : parts;
  if (source === undefined || target === undefined || source.startsWith('.')) return [undefined, undefined];
  const inside = textOf(target, variables);
  return [source, mounts.find(({ type, destination }) => type === 'bind' && destination === inside)?.source];
}

/** Splits where no `${…}` is in the way. */
function splitOutside(text: string, at: RegExp): string[] {
  const parts = [''];
  let depth = 0;
  for (const char of text.replaceAll('${', '\0')) {
    if (char === '\0') depth += 1;
    else if (char === '}') depth = Math.max(0, depth - 1);
    if (depth === 0 && at.test(char)) parts.push('');
    else parts.push(`${parts.pop() ?? ''}${char}`);
  }
  return parts.map((part) => part.replaceAll('\0', '${'));
}
