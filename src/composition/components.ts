import { holdsSecret, lookedAtBytesMax, type LookedAtFile } from '../components/config/withheld.ts';
import {
  createKeptApart,
  relationsOf,
  type PlaceQuestion,
  type ReservedPlace,
} from '../components/wrappers/kept-apart.ts';
import type { Environment } from '../model/environment.ts';
import type { Component } from '../ports/component.ts';
import type { ConfiguredComponent, LeftOutWays } from '../ports/kind.ts';
import type { StorePlace } from '../ports/store-place.ts';
import type { Settings } from '../settings/load.ts';
import type { CapturedFile } from '../settings/secrets.ts';
import { placesOfOthers, placesOfTars, type RunPlaces } from './reserved-places.ts';

/** Overrides of settings by flags. */
export interface StackOverrides extends RunPlaces {
  /** Capture whole models, whatever `models:` says. */
  readonly includeModels: boolean;
  /** All components of tars.yaml, where only some are composed. */
  readonly beside?: Settings['components'];
  /** The project the configured one is a copy of and must not touch. */
  readonly apartFrom?: string;
  /** Where secret files are read from that are missing on this machine. */
  readonly capturedFile?: CapturedFile;
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

/** Services that are stores themselves; those that use captured configuration or directories are none. */
export const servicesOfStores = (components: Settings['components']): ReadonlySet<string> =>
  new Set(
    Object.values(components).flatMap(({ container, service }) =>
      container === undefined || service === undefined ? [] : [service],
    ),
  );

/** Builds the adapter that one component's settings ask for; what they say goes before `place`. Opens nothing. */
export async function composeComponent(
  name: string,
  component: ConfiguredComponent,
  { settings, overrides, knownSecrets, reserved }: StackContext,
  place: StorePlace,
): Promise<Component> {
  const build = await component.adapter();
  const context = {
    ...{ name, place },
    foreignFiles: reserved.filter(({ owner }) => owner === 'tars').map(({ path }) => path),
    scratchDir: settings.scratch_dir,
    inContainers: settings.docker !== undefined,
    includeModels: overrides.includeModels,
    configuration: {
      ...{ secrets: settings.secrets, ageRecipients: settings.age_recipients, knownSecrets },
      look: {
        bytesMax: lookedAtBytesMax,
        holdsSecret: (file: LookedAtFile) => holdsSecret(file, knownSecrets),
      },
    },
  };
  const buildWithout = (leftOut: LeftOutWays): Component => build({ ...context, leftOut });
  const own = livePlaces(component, place);
  if (own.length === 0) return buildWithout(new Map());
  const whole = { ...settings, components: overrides.beside ?? settings.components };
  return createKeptApart({ ...placeQuestion(name, component, own, whole, reserved), build: buildWithout });
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
  { places, configuration }: ConfiguredComponent,
  own: readonly string[],
  { settingsPath, components }: Pick<Settings, 'settingsPath' | 'components'>,
  reserved: readonly ReservedPlace[],
): PlaceQuestion {
  // A tars.yaml that is listed as a file is meant.
  const ofTars = reserved.filter(({ path }) => configuration === undefined || path !== settingsPath);
  return {
    ...{ name, own, leavesOut: places.leavesOut },
    reserved: [...ofTars, ...placesOfOthers(name, components)],
  };
}

/** The paths of this machine that the component captures or exchanges: what its settings say, or where it was found. */
function livePlaces({ places }: ConfiguredComponent, { path }: StorePlace): readonly string[] {
  const told = places.paths.map((each) => each.path);
  return told.length > 0 || path === undefined ? told : [path];
}
