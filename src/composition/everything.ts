import { kinds } from '../components/registry.ts';
import { configurationTexts, looksSecret } from '../components/config/exposed.ts';
import { relationsOf } from '../components/wrappers/kept-apart.ts';
import { throwIfAborted } from '../model/abort.ts';
import type { CapturedPlace } from '../model/captured-place.ts';
import { freeName } from '../model/component-name.ts';
import { toTarsError } from '../model/errors.ts';
import type { Environment } from '../model/environment.ts';
import type { ImpliedComponent, Manifest, NotCaptured } from '../model/manifest.ts';
import type { OperationContext } from '../ports/context.ts';
import type { LeftOutMount } from '../ports/inventory.ts';
import type { ConfiguredComponent } from '../ports/kind.ts';
import type { PlaceNote } from '../ports/place-notes.ts';
import type { Settings } from '../settings/load.ts';
import { servicesOfStores, type StackContext, type StackOverrides } from './components.ts';
import type { DockerStack } from './docker.ts';
import { placesOfTars } from './reserved-places.ts';

/** The stack of `tars.yaml`, with what follows from `everything: true`. */
export interface WholeSettings {
  /** With a component of kind `files` for each place that none of `tars.yaml` captures. */
  readonly settings: Settings;
  readonly implied: readonly ImpliedComponent[];
  /** Single files that the first configuration component holds beside those of `tars.yaml`. */
  readonly impliedFiles: ImpliedFiles | undefined;
  readonly placeNotes: readonly PlaceNote[];
  /** Data in containers themselves. */
  readonly atRisk: readonly NotCaptured[];
}

/** Files in a configuration component. */
interface ImpliedFiles {
  readonly component: string;
  /** Absolute. */
  readonly paths: readonly string[];
}

/**
 * Adds what `everything: true` says to `settings`, as the project's containers are now. Changes nothing. Without that
 * line, and where the containers cannot be looked at, the settings stay as they are.
 */
export async function withEverything(
  settings: Settings,
  overrides: StackOverrides,
  env: Environment,
  ctx: OperationContext,
): Promise<WholeSettings> {
  const leftOut = Object.entries(settings.leave_out).map(([key, reason]) => noteOf(key, reason));
  const nothing = { settings, implied: [], impliedFiles: undefined, placeNotes: leftOut, atRisk: [] };
  if (!settings.everything || settings.docker === undefined) return nothing;
  const { DockerStack: Docker } = await import('./docker.ts');
  const docker = await Docker.open(settings.docker, settings, env, overrides);
  try {
    return await addPlaces(docker, settings, overrides, leftOut, env, ctx);
  } catch (error) {
    throwIfAborted(ctx.signal, error);
    // The components fail by the same cause, and say so; here it costs what nobody has named.
    const { message } = toTarsError(error, 'The containers could not be inspected');
    ctx.log.warn(`What the services keep beside the components in tars.yaml is not captured: ${message}`);
    return nothing;
  }
}

/** `web:/app/cache`, or `volume NAME`. */
function noteOf(key: string, reason: string): PlaceNote {
  const volume = /^volume (\S+)$/.exec(key)?.[1];
  const at = key.indexOf(':');
  const place = volume === undefined ? { tree: key.slice(at + 1), service: key.slice(0, at) } : { volume };
  return { place, reason, mayBeMissing: true };
}

async function addPlaces(
  docker: DockerStack,
  settings: Settings,
  overrides: StackOverrides,
  leftOut: readonly PlaceNote[],
  env: Environment,
  ctx: OperationContext,
): Promise<WholeSettings> {
  const known = await knownPlaces(docker, settings, overrides, env, ctx);
  const quiet = leftOut.flatMap(({ place }) => ('volume' in place ? [] : [place]));
  const volumes = new Set(leftOut.flatMap(({ place }) => ('volume' in place ? [place.volume] : [])));
  const found = await docker.findPlaces(known.captured, quiet, ctx);
  const files = await addFiles(found.leftOut, settings, env);
  const notes: PlaceNote[] = found.leftOut
    .filter(({ path }) => files?.implied.paths.includes(path) !== true)
    .map(({ path, reason, problem }) => ({
      place: { tree: path },
      reason: reason ?? files?.tooLarge.get(path) ?? problem ?? '',
      mayBeMissing: reason !== undefined,
    }));
  const components: Record<string, ConfiguredComponent> = {};
  const implied: ImpliedComponent[] = [];
  const writing: string[] = [];
  const stores = servicesOfStores(settings.components);
  const taken = new Set(Object.keys(settings.components));
  for (const place of found.places) {
    if (place.type === 'volume' && volumes.has(place.source)) continue;
    const conflict = await conflictOf(place.name, place.path, settings, env);
    if (conflict !== undefined) {
      notes.push({ place: { tree: place.path }, reason: conflict, mayBeMissing: true });
      continue;
    }
    const { service, inside, exclude } = place;
    const name = freeName(place.name, taken);
    const one = {
      component: name,
      service,
      inside,
      ...(exclude.length === 0 ? {} : { exclude: [...exclude] }),
    };
    components[name] = directoryComponent(one);
    implied.push(one);
    if (exclude.length > 0) notes.push(partNote({ tree: inside, service }, exclude));
    writing.push(...place.writers.filter((writer) => !stores.has(writer)));
  }
  const isLeftOut = ({ subject }: NotCaptured): boolean => subject in settings.leave_out;
  return {
    settings: {
      ...settings,
      components: { ...settings.components, ...files?.components, ...components },
      services: withWriters(settings.services, writing),
    },
    implied,
    impliedFiles: files?.implied,
    placeNotes: [...leftOut, ...known.notes, ...notes],
    atRisk: found.atRisk.filter((each) => !isLeftOut(each)),
  };
}

interface AddedFiles {
  readonly implied: ImpliedFiles;
  /** The configuration component that holds them. */
  readonly components: Settings['components'];
  /** Why others are in none, by their path. */
  readonly tooLarge: ReadonlyMap<string, string>;
}

/** A configuration is read into memory as a whole, and its component takes no more than four times as much. */
const impliedFilesBytesMax = 4 << 20;

/** Single files that services have mounted, such as `acme.json`. Undefined where no component could hold them. */
async function addFiles(
  leftOut: readonly LeftOutMount[],
  settings: Settings,
  env: Environment,
): Promise<AddedFiles | undefined> {
  const [component] = configurationsOf(settings);
  if (component === undefined) return undefined;
  const paths: string[] = [];
  const tooLarge = new Map<string, string>();
  let totalBytes = 0;
  for (const { path, isFile, reason, sizeBytes = 0 } of leftOut) {
    if (isFile !== true || reason !== undefined || paths.includes(path) || tooLarge.has(path)) continue;
    if (totalBytes + sizeBytes > impliedFilesBytesMax) {
      tooLarge.set(
        path,
        'a single file that is too large for the configuration: mount its directory instead',
      );
      continue;
    }
    if ((await conflictOf(component, path, settings, env)) !== undefined) continue;
    totalBytes += sizeBytes;
    paths.push(path);
  }
  return { implied: { component, paths }, components: withFiles(settings, paths), tooLarge };
}

/** The names of the components that hold the configuration. */
const configurationsOf = ({ components }: Settings): readonly string[] =>
  Object.entries(components).flatMap(([name, { configuration }]) =>
    configuration === undefined ? [] : [name],
  );

/** The components, of which the first with configuration holds `paths` too. */
function withFiles(settings: Settings, paths: readonly string[]): Settings['components'] {
  const [name = ''] = configurationsOf(settings);
  const component = settings.components[name];
  if (component === undefined) return settings.components;
  const listed = component.configuration?.files ?? [];
  const added = paths
    .filter((path) => !listed.includes(path))
    .reduce((each, path) => each.configuration?.with(path) ?? each, component);
  return { ...settings.components, [name]: added };
}

/** Of a directory that is captured around what other components capture in it. */
const partNote = (place: PlaceNote['place'], exclude: readonly string[]): PlaceNote => ({
  ...{ place, mayBeMissing: true, isOfPlaceAlone: true },
  reason: `other components capture ${exclude.join(', ')} in it`,
});

/** As `init` would have declared them; what `tars.yaml` says of one counts. */
function withWriters(services: Settings['services'], writing: readonly string[]): Settings['services'] {
  const found = { depends_on: [], start_timeout_ms: 120_000, writer: true };
  return {
    ...services,
    ...Object.fromEntries([...new Set(writing)].map((name) => [name, { ...found, ...services[name] }])),
  };
}

interface KnownPlaces {
  readonly captured: readonly CapturedPlace[];
  /** Why parts of them are not captured. */
  readonly notes: readonly PlaceNote[];
}

/** What the components of `tars.yaml` capture, or were told not to. */
async function knownPlaces(
  docker: DockerStack,
  settings: Settings,
  overrides: StackOverrides,
  env: Environment,
  ctx: OperationContext,
): Promise<KnownPlaces> {
  const reserved = await placesOfTars(settings, env, overrides);
  const stack: StackContext = { settings, overrides, knownSecrets: [], reserved };
  const found = await Promise.all(
    Object.entries(settings.components).map(async ([name, component]): Promise<KnownPlaces> => {
      const { service, container, places } = component;
      if (service !== undefined && places.inside !== undefined && !places.inside.isWhole) {
        const place = { tree: places.inside.path, service };
        const reason = `what exclude: of ${name} in tars.yaml names`;
        return { captured: [place], notes: [{ place, reason, mayBeMissing: true, isOfPlaceAlone: true }] };
      }
      const composed = await docker.component(name, component, stack, undefined);
      try {
        return { captured: (await composed.places?.(ctx)) ?? [], notes: [] };
      } catch (error) {
        throwIfAborted(ctx.signal, error);
        // Where a store's data is cannot be told: none of its mounts is taken for anything else.
        const isStore = container !== undefined && service !== undefined;
        return { captured: isStore ? [{ tree: '/', service }] : [], notes: [] };
      }
    }),
  );
  return {
    captured: found.flatMap(({ captured }) => captured),
    notes: found.flatMap(({ notes }) => notes),
  };
}

/** Why a place must not be touched, as tars needs it itself. */
async function conflictOf(
  name: string,
  path: string,
  settings: Settings,
  env: Environment,
): Promise<string | undefined> {
  const reserved = await placesOfTars(settings, env);
  const { conflicts } = await relationsOf({ name, own: [path], leavesOut: 'parts', reserved });
  return conflicts.length === 0 ? undefined : conflicts.join('; ');
}

/** As `tars.yaml` would name it. */
function directoryComponent(implied: ImpliedComponent): ConfiguredComponent {
  const { component: name, service, inside, exclude } = implied;
  const kind = kinds.find((each) => each.name === 'files');
  if (kind === undefined) throw new RangeError('There is no kind files');
  const parsed = kind.schema((path) => path).parse({ kind: 'files', service, inside, exclude });
  return parsed.complete({ name, hasDocker: true, label: `component ${name}` });
}

/**
 * Keys and passwords of the applications that no component holds: their names alone.
 * @param settings with what follows from `everything: true`
 */
export async function unheldSecrets(
  settings: Settings,
  env: Environment,
  ctx: OperationContext,
): Promise<readonly string[]> {
  if (settings.docker === undefined) return [];
  const overrides = { includeModels: false };
  const { DockerStack: Docker } = await import('./docker.ts');
  const docker = await Docker.open(settings.docker, settings, env, overrides);
  const { captured } = await knownPlaces(docker, settings, overrides, env, ctx);
  const files = Object.values(settings.components).flatMap(({ configuration }) => configuration?.files ?? []);
  const [texts, reserved] = await Promise.all([
    configurationTexts(files, ctx.signal),
    placesOfTars(settings, env),
  ]);
  const own = reserved.filter(({ owner }) => owner === 'tars').map(({ path }) => path);
  return docker.unheldSecrets({ captured, texts, own, isSecret: looksSecret }, ctx);
}

/**
 * Adds the components of a snapshot that `tars.yaml` does not name and that followed from `everything: true`, and the files
 * of its configuration.
 */
export function withImplied(
  settings: Settings,
  { implied = [], impliedFiles = [] }: Pick<Manifest, 'implied' | 'impliedFiles'>,
): Settings {
  if (!settings.everything || settings.docker === undefined) return settings;
  const unnamed = implied.filter(({ component }) => !(component in settings.components));
  const components = Object.fromEntries(unnamed.map((each) => [each.component, directoryComponent(each)]));
  return { ...settings, components: { ...withFiles(settings, impliedFiles), ...components } };
}
