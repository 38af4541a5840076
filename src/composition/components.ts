import { createChromaComponent, type RemoteDirectory } from '../components/chroma/index.ts';
import { createConfigComponent } from '../components/config/index.ts';
import type { DerivedSource } from '../components/config/derived.ts';
import { createRemoteChroma, createRemoteOllama, createRemoteRedis } from '../components/remote/stores.ts';
import { createOllamaComponent } from '../components/ollama/index.ts';
import { createPostgresComponent } from '../components/postgres/index.ts';
import type { ServerContainer } from '../components/postgres/connection/options.ts';
import { createTreesComponent } from '../components/files/index.ts';
import { createRedisComponent } from '../components/redis/index.ts';
import {
  createKeptApart,
  relationsOf,
  type LeftOutWays,
  type PlaceQuestion,
  type ReservedPlace,
} from '../components/wrappers/kept-apart.ts';
import { ConfigurationError, ServiceUnavailableError } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { ServerProof } from '../ports/server-proof.ts';
import { placesOfOthers, placesOfTars, type RunPlaces } from './reserved-places.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { redisTls } from '../settings/redis-address.ts';
import type { ComponentSettings } from '../settings/schema.ts';

/** Overrides of settings by flags. */
export interface StackOverrides extends RunPlaces {
  /** Capture whole models, whatever `models:` says. */
  readonly includeModels: boolean;
  /** All components of tars.yaml, where only some are composed. */
  readonly beside?: Settings['components'];
  /** The project the configured one is a copy of and must not touch. */
  readonly apartFrom?: string;
}

/** What all components are built with. */
export interface StackContext {
  readonly settings: Settings;
  readonly overrides: StackOverrides;
  /** Replaced wherever configuration is shown. */
  readonly knownSecrets: readonly string[];
  /** What tars needs itself. */
  readonly reserved: readonly ReservedPlace[];
}

/** Where a server listens. */
interface ServerAddress {
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
  readonly remote?: RemoteDirectory | undefined;
  /** Where programs beside a server run. */
  readonly programs?: ServerContainer | undefined;
  /** What containers know more than the configuration's files say. */
  readonly derived?: DerivedSource;
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
  stack: StackContext,
  place: StorePlace,
): Component {
  const build = (leftOut: LeftOutWays): Component => buildComponent(name, component, stack, place, leftOut);
  const own = livePlaces(component, place);
  if (own.length === 0) return build(new Map());
  const { settings, overrides, reserved } = stack;
  const whole = { ...settings, components: overrides.beside ?? settings.components };
  return createKeptApart({ ...placeQuestion(name, component, own, whole, reserved), build });
}

/** What keeps places of `tars.yaml` from being captured and restored: a sentence each. Looks at the disk alone. */
export async function placeConflicts(settings: Settings, env: Environment): Promise<readonly string[]> {
  const reserved = await placesOfTars(settings, env);
  const relations = await Promise.all(
    Object.entries(settings.components).map(([name, component]) =>
      relationsOf(placeQuestion(name, component, livePlaces(component, {}), settings, reserved)),
    ),
  );
  return relations.flatMap(({ conflicts }) => conflicts);
}

function placeQuestion(
  name: string,
  component: ComponentSettings,
  own: readonly string[],
  { settingsPath, components }: Pick<Settings, 'settingsPath' | 'components'>,
  reserved: readonly ReservedPlace[],
): PlaceQuestion {
  const leavesOut = component.kind === 'files' ? 'parts' : component.kind === 'config' ? 'files' : 'whole';
  // A tars.yaml that is listed as a file is meant.
  const ofTars = reserved.filter(({ path }) => component.kind !== 'config' || path !== settingsPath);
  return { name, own, leavesOut, reserved: [...ofTars, ...placesOfOthers(name, components)] };
}

/** The paths of this machine that the component captures or exchanges. */
function livePlaces(component: ComponentSettings, { path }: StorePlace): readonly string[] {
  switch (component.kind) {
    case 'postgres':
      return [];
    case 'redis':
      return [component.data_dir ?? path].filter((each) => each !== undefined);
    case 'chroma':
    case 'ollama':
      return [component.path ?? path].filter((each) => each !== undefined);
    case 'files':
      return component.inside === undefined ? (component.paths ?? []) : path === undefined ? [] : [path];
    case 'config':
      return component.files;
  }
}

function buildComponent(
  name: string,
  component: ComponentSettings,
  { settings, overrides, knownSecrets }: StackContext,
  place: StorePlace,
  leftOut: LeftOutWays,
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
        ...(place.address === 'unknown' ? {} : { socket: component.socket }),
        ...proofOf(place),
        tls: redisTls(component),
        username: component.username,
        password: place.password,
        scratchDir,
      };
      const dataDir = component.data_dir ?? place.path;
      return dataDir === undefined && place.remote !== undefined
        ? createRemoteRedis(options, place.remote.volume)
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
      return path === undefined && place.remote !== undefined
        ? createRemoteChroma(options, place.remote)
        : createChromaComponent({ ...options, path, keepDirectory: component.path === undefined });
    }
    case 'ollama': {
      const models = overrides.includeModels ? 'all' : component.models;
      const url = place.address === 'unknown' ? undefined : component.url;
      const options = { ...common, url, models } as const;
      const path = component.path ?? place.path;
      if (path !== undefined) return createOllamaComponent({ ...options, path });
      if (place.remote !== undefined)
        return createRemoteOllama({ ...options, scratchDir }, place.remote.volume);
      throw new ConfigurationError(`The model store of ${name} is not known`, {
        hint: `Set components.${name}.path in tars.yaml to the directory with manifests/ and blobs/ in it.`,
      });
    }
    case 'files': {
      const { paths = [], inside, exclude } = component;
      const places =
        inside === undefined
          ? paths.map((path) => ({ path, live: path }))
          : [{ path: inside, live: place.path ?? inside }];
      const trees = places.map((each) => ({ ...each, exclude, keepOut: leftOut.get(each.live) ?? [] }));
      // A container would go on with the directory that was renamed.
      return createTreesComponent({ ...common, trees, keepDirectory: settings.docker !== undefined });
    }
    case 'config':
      return createConfigComponent({
        ...common,
        files: component.files.filter((file) => !leftOut.has(file)),
        secrets: settings.secrets,
        ageRecipients: settings.age_recipients,
        ageIdentityFile: component.age_identity_file,
        knownSecrets,
        ...(place.derived === undefined ? {} : { derived: place.derived }),
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
