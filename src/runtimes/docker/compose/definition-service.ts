import { resolve } from 'node:path';
import {
  envFilesOf,
  listOf,
  type ComposeFile,
  type ListOrMap,
  type ServiceBody,
} from './definition-schema.ts';
import { readEnvFile } from './env-files.ts';

/** One service as Compose files define it. */
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

/** A volume or a directory of the machine that a service has. */
interface DefinedMount {
  readonly type: 'volume' | 'bind';
  /** The volume's name for the Engine, or an absolute path. */
  readonly source: string;
  readonly destination: string;
  readonly readOnly: boolean;
}

interface FileContext {
  readonly file: ComposeFile;
  readonly base: string;
  readonly project: string;
}

/** One service as one file defines it. */
export async function describe(
  service: string,
  body: ServiceBody,
  { file, base, project }: FileContext,
): Promise<DefinedService> {
  const { build, image, ports = [], expose = [], depends_on: dependsOn = [] } = body;
  const context = typeof build === 'string' ? build : (build?.context ?? (build ? '.' : undefined));
  const fromFiles = await Promise.all(envFilesOf(body).map((path) => readEnvFile(resolve(base, path))));
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
export function merged(
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

function recordOf(value: ListOrMap | undefined): Record<string, string> {
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
  volume: NonNullable<ServiceBody['volumes']>[number],
  { file, base, project }: FileContext,
): DefinedMount[] {
  const {
    type,
    source,
    target,
    read_only: readOnly = false,
  } = typeof volume === 'string' ? shortMount(volume) : volume;
  if (source === undefined || (type !== 'volume' && type !== 'bind')) return [];
  if (type === 'bind') {
    const home = source.startsWith('~/') ? `${process.env['HOME'] ?? ''}${source.slice(1)}` : source;
    return [{ type, source: resolve(base, home), destination: target, readOnly }];
  }
  const declared = file.volumes?.[source];
  const external = declared?.external ?? false;
  const given = declared?.name ?? (typeof external === 'object' ? external.name : undefined);
  const name = given ?? (external === false ? `${project}_${source}` : source);
  return [{ type, source: name, destination: target, readOnly }];
}

interface ShortMount {
  readonly type: string;
  readonly source: string | undefined;
  readonly target: string;
  readonly read_only: boolean;
}

function shortMount(text: string): ShortMount {
  const [source = '', target, mode = ''] = text.split(':');
  const readOnly = mode.split(',').includes('ro');
  if (target === undefined) return { type: 'volume', source: undefined, target: source, read_only: readOnly };
  const isPath = /^[./~]/.test(source);
  return {
    ...{ type: isPath ? 'bind' : 'volume', source, read_only: readOnly },
    target: target.replace(/(.)\/$/, '$1'),
  };
}
