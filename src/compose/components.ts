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
import { ConfigurationError } from '../model/errors.ts';
import type { Component } from '../ports/component.ts';
import type { Settings } from '../settings/load.ts';
import type { ComponentSettings } from '../settings/schema.ts';

/** Overrides of settings by flags. */
export interface StackOverrides {
  /** Capture whole models, whatever `models:` says. */
  readonly includeModels: boolean;
  /** The project the configured one is a copy of and must not touch. */
  readonly apartFrom?: string;
}

/** What all components are built with. */
export interface Surroundings {
  readonly settings: Settings;
  readonly overrides: StackOverrides;
  /** Replaced wherever configuration is shown. */
  readonly knownSecrets: readonly string[];
}

/** Where a store is, for what its settings leave open. */
export interface StorePlace {
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Its data directory as a path of this machine. */
  readonly path?: string | undefined;
  /** Its data directory where no path leads to it. */
  readonly distant?: DistantDirectory | undefined;
  /** Where programs beside a server run. */
  readonly programs?: ServerContainer | undefined;
}

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
        host: component.host ?? place.host ?? '127.0.0.1',
        port:
          component.host === undefined ? (place.port ?? component.port ?? 5432) : (component.port ?? 5432),
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
        host: component.host ?? place.host ?? '127.0.0.1',
        port:
          component.host === undefined ? (place.port ?? component.port ?? 6379) : (component.port ?? 6379),
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
      const found = place.host === undefined ? undefined : `http://${place.host}:${place.port}`;
      const options = {
        ...{ ...common, url: url ?? found, headers, scratchDir },
        ...(tenants === undefined ? {} : { tenants }),
      };
      const path = component.path ?? place.path;
      return path === undefined && place.distant !== undefined
        ? createDistantChroma(options, place.distant)
        : createChromaComponent({ ...options, path, keepDirectory: component.path === undefined });
    }
    case 'ollama': {
      const models = overrides.includeModels ? 'all' : component.models;
      const options = { ...common, url: component.url, models } as const;
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
