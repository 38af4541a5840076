import { z } from 'zod';
import { ConfigurationError } from '../../../model/errors.ts';

/** What Compose makes of the files, as far as a restore has to know. */
export interface ComposeModel {
  readonly services: ReadonlyMap<string, ComposeService>;
  /** By the key in the file. */
  readonly volumes: ReadonlyMap<string, SharedName>;
  readonly networks: ReadonlyMap<string, SharedName>;
}

/** A volume or network of the project, which may be shared with others. */
interface SharedName {
  /** The Engine's name for it. */
  readonly name: string;
  /** Created by somebody else. */
  readonly external: boolean;
  /** Of a volume: what its options mount, such as a directory of the machine. */
  readonly device?: string;
}

/** A service as the files describe it, running or not. */
export interface ComposeService {
  readonly name: string;
  readonly image: string;
  /** The file says how to build it. */
  readonly built: boolean;
  readonly containerName: string | undefined;
  /** Not part of the project unless asked for. */
  readonly optional: boolean;
  readonly publishedPorts: readonly number[];
  readonly mounts: readonly ComposeMount[];
  /** Keys of networks. */
  readonly networks: readonly string[];
  /** Files of the machine that it has as secrets or configs, absolute. */
  readonly files: readonly string[];
}

/** Where a service has data from outside its container. */
interface ComposeMount {
  readonly type: 'volume' | 'bind';
  /** A key of {@link ComposeModel.volumes}, or an absolute path. */
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

const nameSchema = z
  .object({
    name: z.string().optional(),
    external: z.union([z.boolean(), z.object({ name: z.string().optional() })]).optional(),
    driver_opts: z.object({ device: z.string().optional() }).nullish().catch(undefined),
  })
  .nullable();
const mountSchema = z.union([
  z.string(),
  z.object({
    type: z.string(),
    source: z.string().optional(),
    target: z.string(),
    read_only: z.boolean().optional(),
  }),
]);
const portSchema = z.union([
  z.string(),
  z.number(),
  z.object({ published: z.union([z.string(), z.number()]).optional() }),
]);
const resourceSchema = z.object({ file: z.string().optional() }).nullable();
const grantSchema = z.union([z.string(), z.object({ source: z.string() })]);
const modelSchema = z.object({
  services: z.record(
    z.string(),
    z.object({
      image: z.string().optional(),
      build: z.unknown().optional(),
      container_name: z.string().optional(),
      profiles: z.array(z.string()).optional(),
      ports: z.array(portSchema).optional(),
      volumes: z.array(mountSchema).optional(),
      networks: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).optional(),
      secrets: z.array(grantSchema).optional(),
      configs: z.array(grantSchema).optional(),
    }),
  ),
  secrets: z.record(z.string(), resourceSchema).nullish(),
  configs: z.record(z.string(), resourceSchema).nullish(),
  volumes: z.record(z.string(), nameSchema).nullish(),
  networks: z.record(z.string(), nameSchema).nullish(),
});

/** Both forms that `config` prints: version 2 spells everything out, version 1 leaves the short forms. */
export function composeModel(value: unknown, project: string, major: number): ComposeModel {
  const parsed = modelSchema.safeParse(value);
  if (!parsed.success) {
    throw new ConfigurationError(
      `Docker Compose describes the project ${project} in a form that tars does not know`,
      {
        cause: parsed.error,
      },
    );
  }
  const { services, volumes, networks } = parsed.data;
  const separator = major === 1 ? '_' : '-';
  return {
    services: new Map(
      Object.entries(services).map(([name, service]) => [
        name,
        {
          name,
          image: service.image ?? `${project}${separator}${name}`,
          built: service.build !== undefined,
          containerName: service.container_name,
          optional: (service.profiles ?? []).length > 0,
          publishedPorts: (service.ports ?? []).flatMap(publishedPort),
          mounts: (service.volumes ?? []).flatMap(mountOf),
          networks: networkKeys(service.networks),
          files: [
            ...filesOf(service.secrets, parsed.data.secrets),
            ...filesOf(service.configs, parsed.data.configs),
          ],
        },
      ]),
    ),
    volumes: namesOf(volumes ?? {}, project),
    networks: namesOf({ default: null, ...networks }, project),
  };
}

function filesOf(
  grants: readonly z.infer<typeof grantSchema>[] = [],
  resources: Readonly<Record<string, z.infer<typeof resourceSchema>>> | null | undefined,
): readonly string[] {
  const names = grants.map((grant) => (typeof grant === 'string' ? grant : grant.source));
  return names.flatMap((name) => resources?.[name]?.file ?? []).filter((path) => path.startsWith('/'));
}

function networkKeys(networks: readonly string[] | Record<string, unknown> | undefined): readonly string[] {
  if (networks === undefined) return ['default'];
  return Array.isArray(networks) ? (networks as readonly string[]) : Object.keys(networks);
}

function namesOf(
  entries: Readonly<Record<string, z.infer<typeof nameSchema>>>,
  project: string,
): Map<string, SharedName> {
  return new Map(
    Object.entries(entries).map(([key, entry]) => {
      const external = entry?.external ?? false;
      const given = entry?.name ?? (typeof external === 'object' ? external.name : undefined);
      const isExternal = external !== false;
      const name = given ?? (isExternal ? key : `${project}_${key}`);
      const device = entry?.driver_opts?.device;
      return [key, { name, external: isExternal, ...(device === undefined ? {} : { device }) }];
    }),
  );
}

/** `127.0.0.1:8080:80/tcp`, `8080:80`; a container's port alone is published anywhere. */
function publishedPort(port: z.infer<typeof portSchema>): number[] {
  const published =
    typeof port === 'object' ? port.published : /(?:^|:)(\d+):\d+(?:\/\w+)?$/.exec(String(port))?.[1];
  const number = Number(published);
  return Number.isInteger(number) && number > 0 ? [number] : [];
}

function mountOf(mount: z.infer<typeof mountSchema>): ComposeMount[] {
  if (typeof mount !== 'string') {
    const { type, source, target, read_only: readOnly = false } = mount;
    if ((type !== 'volume' && type !== 'bind') || source === undefined) return [];
    return [{ type, source, target, readOnly }];
  }
  const [source, target, mode = ''] = mount.split(':');
  if (source === undefined || target === undefined) return [];
  const type = source.startsWith('/') ? 'bind' : 'volume';
  return [{ type, source, target, readOnly: mode.split(',').includes('ro') }];
}
