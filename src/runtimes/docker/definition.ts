import { access, readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { ConfigurationError, hasErrno, toTarsError } from '../../model/errors.ts';
import { interpolate, parseEnvFile, type Variables } from './variables.ts';

/** What Compose files say of a project, read without Compose. */
export interface Definition {
  /** `name:` at the top. */
  readonly name: string | undefined;
  readonly services: ReadonlyMap<string, DefinedService>;
  /** Files that the Compose files mention, themselves included; absolute, whether they exist or not. */
  readonly files: readonly string[];
}

export interface DefinedService {
  readonly service: string;
  readonly image: string;
  readonly containerName: string | undefined;
  /** Absolute; undefined for an image from elsewhere. */
  readonly buildDirectory: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  readonly exposedPorts: readonly number[];
  /** Entrypoint and command, as far as the file has its own. */
  readonly argv: readonly string[];
  readonly dependsOn: readonly string[];
  readonly mounts: readonly DefinedMount[];
}

export interface DefinedMount {
  readonly type: 'volume' | 'bind';
  /** The volume's name for the Engine, or an absolute path. */
  readonly source: string;
  readonly destination: string;
}

const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()]);
const words = z.union([z.string(), z.array(z.string()), z.null()]);
const listOrMap = z.union([z.array(z.string()), z.record(z.string(), scalar), z.null()]);
const fileResource = z.object({ file: z.string().optional() }).nullable();
const named = z
  .object({ name: z.string().optional(), external: z.union([z.boolean(), z.object({ name: z.string() })]) })
  .partial()
  .nullable();

const serviceSchema = z.object({
  image: z.string().optional(),
  container_name: z.string().optional(),
  build: z.union([z.string(), z.object({ context: z.string().optional() })]).optional(),
  labels: listOrMap.optional(),
  environment: listOrMap.optional(),
  env_file: z.union([z.string(), z.array(z.union([z.string(), z.object({ path: z.string() })]))]).optional(),
  expose: z.array(z.union([z.string(), z.number()])).optional(),
  ports: z
    .array(z.union([z.string(), z.number(), z.object({ target: z.union([z.string(), z.number()]) })]))
    .optional(),
  entrypoint: words.optional(),
  command: words.optional(),
  depends_on: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).optional(),
  extends: z.union([z.string(), z.object({ file: z.string().optional() })]).optional(),
  volumes: z
    .array(
      z.union([
        z.string(),
        z.object({ type: z.string(), source: z.string().optional(), target: z.string() }),
      ]),
    )
    .optional(),
});
const includeSchema = z.union([
  z.string(),
  z.object({
    path: z.union([z.string(), z.array(z.string())]),
    env_file: z.union([z.string(), z.array(z.string())]).optional(),
  }),
]);
const fileSchema = z.object({
  name: z.string().optional(),
  services: z.record(z.string(), serviceSchema.nullable()).nullish(),
  volumes: z.record(z.string(), named).nullish(),
  configs: z.record(z.string(), fileResource).nullish(),
  secrets: z.record(z.string(), fileResource).nullish(),
  include: z.array(includeSchema).nullish(),
});
type ComposeFile = z.infer<typeof fileSchema>;

/** Included files may include others, and in a circle by mistake. */
const filesMax = 64;

/** The variables Compose puts into the files of a directory: the environment's, then those of `.env`. */
export async function composeVariables(
  directory: string,
  envFiles: readonly string[],
  env: Variables,
): Promise<Variables> {
  const files = envFiles.length > 0 ? envFiles : [resolve(directory, '.env')];
  const texts = await Promise.all(files.map((file) => textIfThere(file)));
  return { ...Object.assign({}, ...texts.map((text) => parseEnvFile(text ?? ''))), ...env } as Variables;
}

/**
 * Reads Compose files, later ones over earlier ones, with everything they mention.
 * @throws ConfigurationError when one is not there or is no Compose file
 */
export async function readDefinition(
  composeFiles: readonly string[],
  project: string,
  variables: Variables,
): Promise<Definition> {
  const services = new Map<string, DefinedService>();
  const mentioned = new Set<string>();
  let name: string | undefined;
  const queue = [...composeFiles];
  const read = new Set<string>();
  const directory = dirname(composeFiles[0] ?? '.');
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    if (read.has(path) || read.size >= filesMax) continue;
    read.add(path);
    mentioned.add(path);
    const file = await readComposeFile(path, variables);
    name ??= file.name;
    // Relative paths start at the first file; those of included ones at theirs.
    const base = composeFiles.includes(path) ? directory : dirname(path);
    const { files, composeFiles: more } = mentionedBy(file, base);
    for (const other of files) mentioned.add(other);
    queue.push(...more);
    for (const [service, body] of Object.entries(file.services ?? {})) {
      const defined = await describe(service, body ?? {}, { file, base, project });
      services.set(service, merged(services.get(service), defined, body?.image));
    }
  }
  return { name, services, files: [...mentioned] };
}

/** The services in what `docker compose config` printed, where every path is absolute already. */
export async function definedServices(
  value: unknown,
  project: string,
): Promise<ReadonlyMap<string, DefinedService>> {
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    throw new ConfigurationError(
      `Docker Compose describes the project ${project} in a way tars does not know`,
      { cause: parsed.error },
    );
  }
  const file = parsed.data;
  const services = new Map<string, DefinedService>();
  for (const [service, body] of Object.entries(file.services ?? {}))
    services.set(service, await describe(service, body ?? {}, { file, base: '/', project }));
  return services;
}

async function readComposeFile(path: string, variables: Variables): Promise<ComposeFile> {
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
    `${path} is not a Compose file tars can read: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
    { hint: 'Start the project and name it instead: tars init --project NAME' },
  );
}

function interpolated(value: unknown, variables: Variables): unknown {
  if (typeof value === 'string') return interpolate(value, variables);
  if (Array.isArray(value)) return value.map((item) => interpolated(item, variables));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, interpolated(item, variables)]));
}

const listOf = (value: string | readonly string[] | null | undefined): readonly string[] =>
  value === undefined || value === null ? [] : typeof value === 'string' ? [value] : value;

const envFilesOf = ({ env_file: files }: z.infer<typeof serviceSchema>): readonly string[] =>
  typeof files === 'string'
    ? [files]
    : (files ?? []).map((file) => (typeof file === 'string' ? file : file.path));

function mentionedBy(
  file: ComposeFile,
  base: string,
): { readonly files: readonly string[]; readonly composeFiles: readonly string[] } {
  const resources = [...Object.values(file.configs ?? {}), ...Object.values(file.secrets ?? {})];
  const bodies = Object.values(file.services ?? {}).filter((body) => body !== null);
  const composeFiles = [
    ...(file.include ?? []).flatMap((entry) => (typeof entry === 'string' ? [entry] : listOf(entry.path))),
    ...bodies.flatMap((body) => (typeof body.extends === 'object' ? (body.extends.file ?? []) : [])),
  ];
  const files = [
    ...resources.flatMap((resource) => resource?.file ?? []),
    ...bodies.flatMap((body) => envFilesOf(body)),
    ...(file.include ?? []).flatMap((entry) => (typeof entry === 'string' ? [] : listOf(entry.env_file))),
  ];
  // An address, such as of a Git repository, is no file.
  const local = (paths: readonly string[]): string[] =>
    paths.filter((path) => !/^(\w+:\/\/|oci:|git@)/.test(path)).map((path) => resolve(base, path));
  return { files: local(files), composeFiles: local(composeFiles) };
}

interface Surroundings {
  readonly file: ComposeFile;
  readonly base: string;
  readonly project: string;
}

async function describe(
  service: string,
  body: z.infer<typeof serviceSchema>,
  { file, base, project }: Surroundings,
): Promise<DefinedService> {
  const { build, image, ports = [], expose = [], depends_on: dependsOn = [] } = body;
  const context = typeof build === 'string' ? build : (build?.context ?? (build ? '.' : undefined));
  const fromFiles = await Promise.all(
    envFilesOf(body).map(async (path) => parseEnvFile((await textIfThere(resolve(base, path))) ?? '')),
  );
  return {
    service,
    image: image ?? `${project}-${service}`,
    containerName: body.container_name,
    buildDirectory: context === undefined ? undefined : resolve(base, context),
    labels: recordOf(body.labels),
    environment: { ...(Object.assign({}, ...fromFiles) as object), ...recordOf(body.environment) },
    exposedPorts: [...expose, ...ports].flatMap(containerPort),
    argv: [...listOf(body.entrypoint), ...listOf(body.command)],
    dependsOn: Array.isArray(dependsOn) ? dependsOn : Object.keys(dependsOn),
    mounts: (body.volumes ?? []).flatMap((volume) => mountOf(volume, { file, base, project })),
  };
}

/** A later file adds to what an earlier one says of the same service. */
function merged(
  before: DefinedService | undefined,
  after: DefinedService,
  image: string | undefined,
): DefinedService {
  if (before === undefined) return after;
  return {
    ...after,
    image: image ?? before.image,
    containerName: after.containerName ?? before.containerName,
    buildDirectory: after.buildDirectory ?? before.buildDirectory,
    labels: { ...before.labels, ...after.labels },
    environment: { ...before.environment, ...after.environment },
    exposedPorts: [...before.exposedPorts, ...after.exposedPorts],
    argv: after.argv.length > 0 ? after.argv : before.argv,
    dependsOn: [...new Set([...before.dependsOn, ...after.dependsOn])],
    mounts: [
      ...before.mounts.filter((old) => after.mounts.every((mount) => mount.destination !== old.destination)),
      ...after.mounts,
    ],
  };
}

function recordOf(value: z.infer<typeof listOrMap> | undefined): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (!Array.isArray(value))
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, String(item ?? '')]));
  return Object.fromEntries(
    value.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** `127.0.0.1:8080:80/tcp`, `80`, `{ target: 80 }`. */
function containerPort(port: string | number | { target: string | number }): number[] {
  const text = typeof port === 'object' ? String(port.target) : String(port);
  const number = Number(/(\d+)(?:\/tcp)?$/.exec(text)?.[1]);
  return Number.isInteger(number) ? [number] : [];
}

function mountOf(
  volume: NonNullable<z.infer<typeof serviceSchema>['volumes']>[number],
  { file, base, project }: Surroundings,
): DefinedMount[] {
  const { type, source, target } = typeof volume === 'string' ? shortMount(volume) : volume;
  if (source === undefined || (type !== 'volume' && type !== 'bind')) return [];
  if (type === 'bind') {
    const home = source.startsWith('~/') ? `${process.env['HOME'] ?? ''}${source.slice(1)}` : source;
    return [{ type, source: resolve(base, home), destination: target }];
  }
  const declared = file.volumes?.[source];
  const external = declared?.external ?? false;
  const given = declared?.name ?? (typeof external === 'object' ? external.name : undefined);
  const name = given ?? (external === false ? `${project}_${source}` : source);
  return [{ type, source: name, destination: target }];
}

function shortMount(text: string): { type: string; source: string | undefined; target: string } {
  const [source = '', target] = text.split(':');
  if (target === undefined) return { type: 'volume', source: undefined, target: source };
  const isPath = /^[./~]/.test(source);
  return { type: isPath ? 'bind' : 'volume', source, target: target.replace(/(.)\/$/, '$1') };
}

/** Also what a directory cannot be read as. */
async function textIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES'].some((errno) => hasErrno(error, errno))) return undefined;
    throw toTarsError(error, `Cannot read ${path}`);
  });
}

const defaultNames = ['compose.yaml', 'compose.yml', 'docker-compose.yml', 'docker-compose.yaml'] as const;

/** The Compose file of a directory; undefined when it has none. */
export async function findComposeFile(directory: string): Promise<string | undefined> {
  for (const name of defaultNames)
    if (await isThere(resolve(directory, name))) return resolve(directory, name);
  return undefined;
}

/** Compose adds it to the file with the default name by itself. */
export async function withOverride(composeFile: string): Promise<readonly string[]> {
  const [, stem, suffix] = /^(docker-compose|compose)\.(ya?ml)$/.exec(basename(composeFile)) ?? [];
  if (stem === undefined || suffix === undefined) return [composeFile];
  for (const other of [suffix, suffix === 'yml' ? 'yaml' : 'yml']) {
    const override = resolve(dirname(composeFile), `${stem}.override.${other}`);
    if (await isThere(override)) return [composeFile, override];
  }
  return [composeFile];
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The name Compose gives a project: the environment's, the file's, the directory's. */
export function derivedProjectName(
  composeFile: string,
  fileName: string | undefined,
  variables: Variables,
): string {
  const given = variables['COMPOSE_PROJECT_NAME'];
  const name = given !== undefined && given !== '' ? given : (fileName ?? basename(dirname(composeFile)));
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '')
    .replace(/^[_-]+/, '');
}
