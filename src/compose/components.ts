import { createChromaComponent, type DistantDirectory } from '../components/chroma/index.ts';
import { createConfigComponent } from '../components/config/index.ts';
import {
  createDistantChroma,
  createDistantOllama,
  createDistantRedis,
} from '../components/mirrored-stores.ts';
import { createOllamaComponent } from '../components/ollama/index.ts';
import { createPostgresComponent } from '../components/postgres/index.ts';
import type { ServerContainer } from '../components/postgres/options.ts';
import { createTreesComponent } from '../components/trees/index.ts';
import { createRedisComponent } from '../components/redis/index.ts';
import { ConfigurationError, ServiceUnavailableError } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { ServerProof } from '../ports/server-proof.ts';
import type { Settings } from '../settings/load.ts';
import type { ComponentSettings } from '../settings/schema.ts';

/** Overrides of settings by flags. */
export interface StackOverrides {
  /** Capture whole models, whatever `models:` says. */
  readonly includeModels: boolean;
  /** The project the configured one is a copy of and must not touch. */
  readonly apartFrom?: string;
  /** The components of the stack, where those of the settings are only a part of them. */
  readonly captured?: Settings['components'];
}

/** What all components are built with. */
export interface Surroundings {
  readonly settings: Settings;
  readonly overrides: StackOverrides;
  /** Replaced wherever configuration is shown. */
  readonly knownSecrets: readonly string[];
}

/** Where a server listens. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** Where a store is, for what its settings leave open. */
export interface StorePlace {
  /** Where it listens; `unknown` while its service does not run. Absent: the default address of this machine. */
  readonly address?: ServerAddress | 'unknown' | undefined;
  /** Tells its server from others; absent where nothing can. */
  readonly proof?: ServerProof | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Its data directory as a path of this machine. */
  readonly path?: string | undefined;
  /** Its data directory where no path leads to it. */
  readonly distant?: DistantDirectory | undefined;
  /** Where programs beside a server run. */
  readonly programs?: ServerContainer | undefined;
}

/** Services that components capture as stores; configuration and directories are none. */
export const servicesOfStores = (components: Settings['components']): ReadonlySet<string> =>
  new Set(
    Object.values(components).flatMap(({ kind, service }) =>
      kind === 'config' || kind === 'files' || service === undefined ? [] : [service],
    ),
  );

/** Builds the adapter that one component's settings ask for; what they say goes before `place`. Opens nothing. */
export function composeComponent(
  name: string,
  component: ComponentSettings,
  { settings, overrides, knownSecrets }: Surroundings,
  place: StorePlace,
): Component {
  const common = { name, service: component.service };
  const scratchDir = settings.scratch_dir;
  switch (component.kind) {
    case 'postgres': {
      const { databases, client_bin_dir: clientBinDir, sslmode, sslrootcert, sslcert, sslkey } = component;
      return createPostgresComponent({
        ...common,
        ...knownAddress(name, addressFor(component, place, 5432)),
        ...proofOf(place),
        user: component.user ?? place.user ?? 'postgres',
        password: place.password,
        databases,
        scratchDir,
        tls: { sslmode, sslrootcert, sslcert, sslkey },
        ...(clientBinDir === undefined ? {} : { clientBinDir }),
        ...(place.programs === undefined ? {} : { container: place.programs }),
      });
    }
    case 'redis': {
      const options = {
        ...common,
        ...(addressFor(component, place, 6379) ?? { host: undefined, port: 6379 }),
        ...proofOf(place),
        username: component.username,
        password: place.password,
        scratchDir,
      };
      const dataDir = component.data_dir ?? place.path;
      return dataDir === undefined && place.distant !== undefined
        ? createDistantRedis(options, place.distant.volume)
        : createRedisComponent({ ...options, dataDir });
    }
    case 'chroma': {
      const { url, headers, tenants } = component;
      const { address } = place;
      const found = typeof address === 'object' ? `http://${address.host}:${address.port}` : undefined;
      const options = {
        ...{ ...common, url: address === 'unknown' ? undefined : (url ?? found), headers, scratchDir },
        ...proofOf(place),
        ...(tenants === undefined ? {} : { tenants }),
      };
      const path = component.path ?? place.path;
      return path === undefined && place.distant !== undefined
        ? createDistantChroma(options, place.distant)
        : createChromaComponent({ ...options, path, keepDirectory: component.path === undefined });
    }
    case 'ollama': {
      const models = overrides.includeModels ? 'all' : component.models;
      const url = place.address === 'unknown' ? undefined : component.url;
      const options = { ...common, url, models } as const;
      const path = component.path ?? place.path;
      if (path !== undefined) return createOllamaComponent({ ...options, path });
      if (place.distant !== undefined)
        return createDistantOllama({ ...options, scratchDir }, place.distant.volume);
      throw new ConfigurationError(`The model store of ${name} is not known`, {
        hint: `Set components.${name}.path in tars.yaml to the directory with manifests/ and blobs/ in it.`,
      });
    }
    case 'files': {
      const { paths = [], inside, exclude } = component;
      const trees =
        inside === undefined
          ? paths.map((path) => ({ path, live: path, exclude }))
          : [{ path: inside, live: place.path ?? inside, exclude }];
      // A container would go on with the directory that was renamed.
      return createTreesComponent({ ...common, trees, keepDirectory: settings.docker !== undefined });
    }
    case 'config':
      return createConfigComponent({
        ...common,
        files: component.files,
        secrets: settings.secrets,
        ageRecipients: settings.age_recipients,
        ageIdentityFile: component.age_identity_file,
        knownSecrets,
      });
  }
}

/** Undefined while it is unknown: no default address stands in for it, where another server may listen. */
function addressFor(
  { host, port }: { readonly host?: string | undefined; readonly port?: number | undefined },
  { address }: StorePlace,
  defaultPort: number,
): ServerAddress | undefined {
  if (address === 'unknown') return undefined;
  if (host !== undefined) return { host, port: port ?? defaultPort };
  return address ?? { host: '127.0.0.1', port: port ?? defaultPort };
}

function knownAddress(name: string, address: ServerAddress | undefined): ServerAddress {
  if (address !== undefined) return address;
  throw new ServiceUnavailableError(`The address of ${name} is not known while its service does not run`);
}

const proofOf = ({ proof }: StorePlace): { readonly proof?: ServerProof } =>
  proof === undefined ? {} : { proof };
