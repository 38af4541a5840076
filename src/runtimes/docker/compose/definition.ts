import type { Environment } from '../../../model/environment.ts';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { ConfigurationError, toTarsError } from '../../../model/errors.ts';
import { envFilesOf, fileSchema, type ComposeFile } from './definition-schema.ts';
import { describe, merged, type DefinedService } from './definition-service.ts';
import { composeFilesMax, includedFiles, includedVariables, isLocal } from './includes.ts';
import { interpolate } from './variables.ts';

/** What Compose files say of a project, read without Compose. */
export interface Definition {
  /** `name:` at the top. */
  readonly name: string | undefined;
  readonly services: ReadonlyMap<string, DefinedService>;
  /** Files that the Compose files mention, themselves included; absolute, whether they exist or not. */
  readonly files: readonly string[];
  /** Files that Compose reads where they exist, beside included files. */
  readonly optional: readonly string[];
}

/**
 * Reads Compose files, later ones over earlier ones, with everything they mention.
 * @throws ConfigurationError when one is not there or is no Compose file
 */
export async function readDefinition(
  composeFiles: readonly string[],
  project: string,
  variables: Environment,
): Promise<Definition> {
  const services = new Map<string, DefinedService>();
  const mentioned = new Set<string>();
  const optional = new Set<string>();
  let name: string | undefined;
  // Relative paths start at the first file; those of included ones at theirs.
  const directory = dirname(composeFiles[0] ?? '.');
  const queue = composeFiles.map((path) => ({ path, base: directory, variables }));
  const read = new Set<string>();
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { path, base } = next;
    if (read.has(path) || read.size >= composeFilesMax) continue;
    read.add(path);
    mentioned.add(path);
    const file = await readComposeFile(path, next.variables);
    name ??= file.name;
    const { files, extended } = mentionedBy(file, base);
    for (const other of files) mentioned.add(other);
    for (const other of extended)
      queue.push({ path: other, base: dirname(other), variables: next.variables });
    for (const included of includedFiles(file.include ?? [], base)) {
      for (const env of included.envFiles) (included.isDefaultEnv ? optional : mentioned).add(env);
      queue.push({ ...included, variables: await includedVariables(included, next.variables) });
    }
    for (const [service, body] of Object.entries(file.services ?? {})) {
      const defined = await describe(service, body ?? {}, { file, base, project });
      services.set(service, merged(services.get(service), defined, body?.image));
    }
  }
  return { name, services, files: [...mentioned], optional: [...optional] };
}

/** The services in what `docker compose config` printed, where every path is absolute already. */
export async function definedServices(
  value: unknown,
  project: string,
): Promise<ReadonlyMap<string, DefinedService>> {
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    throw new ConfigurationError(
      `Docker Compose describes the project ${project} in a form that tars does not know`,
      { cause: parsed.error },
    );
  }
  const file = parsed.data;
  const services = new Map<string, DefinedService>();
  for (const [service, body] of Object.entries(file.services ?? {}))
    services.set(service, await describe(service, body ?? {}, { file, base: '/', project }));
  return services;
}

async function readComposeFile(path: string, variables: Environment): Promise<ComposeFile> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw toTarsError(error, `Cannot read the Compose file ${path}`);
  });
  let value: unknown;
  try {
    value = parse(text, { merge: true });
  } catch {
    // The parser's own message quotes the line, which may hold a password.
    throw new ConfigurationError(`${path} is not valid YAML`, {
      hint: `See where: docker compose -f ${path} config --quiet`,
    });
  }
  const parsed = fileSchema.safeParse(interpolated(value, variables));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigurationError(
    `${path} is not a Compose file that tars can read: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
    { hint: 'Start the project and name it instead: tars init --project NAME' },
  );
}

function interpolated(value: unknown, variables: Environment): unknown {
  if (typeof value === 'string') return interpolate(value, variables);
  if (Array.isArray(value)) return value.map((item) => interpolated(item, variables));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, interpolated(item, variables)]));
}

function mentionedBy(
  file: ComposeFile,
  base: string,
): { readonly files: readonly string[]; readonly extended: readonly string[] } {
  const resources = [...Object.values(file.configs ?? {}), ...Object.values(file.secrets ?? {})];
  const bodies = Object.values(file.services ?? {}).filter((body) => body !== null);
  const extended = bodies.flatMap((body) =>
    typeof body.extends === 'object' ? (body.extends.file ?? []) : [],
  );
  const files = [
    ...resources.flatMap((resource) => resource?.file ?? []),
    ...bodies.flatMap((body) => envFilesOf(body)),
  ];
  const local = (paths: readonly string[]): string[] =>
    paths.filter(isLocal).map((path) => resolve(base, path));
  return { files: local(files), extended: local(extended) };
}
