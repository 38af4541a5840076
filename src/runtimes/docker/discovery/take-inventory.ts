import { dirname, resolve } from 'node:path';
import { ConfigurationError, TarsError } from '../../../model/errors.ts';
import type { CapturedPlace } from '../../../model/captured-place.ts';
import type { NotCaptured } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { FoundFile, FoundPlace, FoundWriter, StackInventory } from '../../../ports/inventory.ts';
import type { Kinds } from '../../../ports/kind.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import { ComposeProject, findComposeCli } from '../compose/compose-cli.ts';
import { derivedProjectName, findComposeFile, withOverride } from '../compose/compose-files.ts';
import { definedServices, readDefinition, type Definition } from '../compose/definition.ts';
import { connectEngine, findEngine, type Engine } from '../engine/engine.ts';
import { composeVariables } from '../compose/env-files.ts';
import { findPlaces } from './find-places.ts';
import { layerState } from './layer-state.ts';
import { unusedVolumes } from '../project/mounts.ts';
import { endedServices } from './project-places.ts';
import {
  findFiles,
  findStores,
  findWriters,
  projectsOf,
  sketchContainers,
  sketchDefinition,
  type FoundRoles,
  type SketchedService,
  type SketchedStore,
} from './inventory.ts';
import { runsFrom } from '../project/project-files.ts';
import { listProjects, readProject, type Project } from '../project/project.ts';
import { shellWord } from '../../../model/shell-word.ts';
import { isJob, isStore, storeTraits, type StoreTraits } from './recognise.ts';
import type { Environment } from '../../../model/environment.ts';

/** Which project `tars init` is asked to look at. */
export type ProjectSelector = { readonly project: string } | { readonly composeFile: string };

interface Place {
  readonly engine: Engine;
  readonly address: EngineAddress;
  readonly env: Environment;
  readonly kinds: readonly StoreTraits[];
}

/**
 * Looks at a Compose project: at its containers where it has some, otherwise at its Compose file. Changes nothing.
 * @throws ConfigurationError when there is no such project or file
 */
export async function takeInventory(
  selector: ProjectSelector,
  kinds: Kinds,
  env: Environment,
  ctx: OperationContext,
): Promise<StackInventory> {
  const address = await findEngine(undefined, env);
  const place = { engine: await connectEngine(address), address, env, kinds: storeTraits(kinds) };
  if ('project' in selector) {
    const project = await readProject(place.engine, selector.project);
    if (project.containers.length === 0) throw await noSuchProject(selector.project, place.engine);
    return fromContainers(project, place, ctx);
  }
  const composeFile = resolve(selector.composeFile);
  const directory = dirname(composeFile);
  const variables = await composeVariables(directory, [], env);
  const { name } = await readDefinition([composeFile], '', variables);
  const derived = derivedProjectName(composeFile, name, variables);
  const project = await projectOf(composeFile, derived, place.engine, ctx);
  if (project !== undefined) return fromContainers(project, place, ctx);
  return fromFiles(await withOverride(composeFile), derived, place, ctx);
}

async function noSuchProject(name: string, engine: Engine): Promise<ConfigurationError> {
  const known = await listProjects(engine);
  return new ConfigurationError(`The Engine has no containers of a project ${name}`, {
    hint:
      known.length === 0
        ? 'It has none of any Compose project. Name the Compose file instead: tars init --compose FILE'
        : `It has those of ${known.join(', ')}. Or name the Compose file: tars init --compose FILE`,
  });
}

/**
 * The project with containers that were made from the file, whatever its name, unless several were; else the one that
 * runs from the file's directory under the name that Compose would give it.
 */
async function projectOf(
  composeFile: string,
  derivedName: string,
  engine: Engine,
  ctx: OperationContext,
): Promise<Project | undefined> {
  let names: readonly string[];
  try {
    names = await projectsOf(engine, composeFile);
  } catch (error) {
    if (!(error instanceof TarsError)) throw error;
    ctx.log.warn(`Only the Compose file is looked at: ${error.message}`);
    return undefined;
  }
  const [first] = names;
  const name = names.length > 1 && names.includes(derivedName) ? derivedName : first;
  if (name === undefined) {
    const other = await readProject(engine, derivedName);
    if (other.containers.length === 0 || !(await runsFrom(other, dirname(composeFile)))) return undefined;
    ctx.log.warn(`The project ${derivedName} runs from other files: ${other.composeFiles.join(', ')}`);
    return other;
  }
  if (names.length > 1 && name !== derivedName) {
    throw new ConfigurationError(`Several projects were made from ${composeFile}: ${names.join(', ')}`, {
      hint: 'Name one of them: tars init --project NAME',
    });
  }
  return readProject(engine, name);
}

async function fromContainers(
  project: Project,
  place: Place,
  ctx: OperationContext,
): Promise<StackInventory> {
  const { engine, address, env } = place;
  const { containers, composeFiles, name } = project;
  const directory = project.workingDir ?? dirname(composeFiles[0] ?? '/');
  const defaultEnvFile = resolve(directory, '.env');
  const envFiles = project.envFiles.filter((path) => path !== defaultEnvFile);
  const definition = await definitionIfReadable(
    composeFiles,
    name,
    await composeVariables(directory, envFiles, env),
    ctx,
  );
  const services = sketchContainers(project, address, definition);
  const roles = await findStores(engine, services, place.kinds, ctx);
  const others = containers.filter(
    (each) => !isJob(each, place.kinds) && !roles.stores.some(({ service }) => service === each.service),
  );
  const atRisk = await Promise.all(others.map((container) => layerState(engine, container, ctx)));
  return describe(services, roles, place, ctx, {
    ...{ project: name, directory, seenThrough: 'containers', composeFiles, envFiles },
    atRisk: atRisk.flat(),
    unusedVolumes: (await unusedVolumes(engine, project, address)).map((volume) => volume.name),
    mentioned: [...(definition?.files ?? composeFiles), ...envFiles],
    optional: [...(definition?.optional ?? []), ...(envFiles.length > 0 ? [] : [defaultEnvFile])],
    absent: [...(definition?.services.keys() ?? [])]
      .sort()
      .filter((name) => !services.some(({ service }) => service === name)),
  });
}

/** Files that are not there or not to be read any more cost what only they say. */
async function definitionIfReadable(
  composeFiles: readonly string[],
  project: string,
  variables: Environment,
  ctx: OperationContext,
): Promise<Definition | undefined> {
  if (composeFiles.length === 0) return undefined;
  try {
    return await readDefinition(composeFiles, project, variables);
  } catch (error) {
    if (!(error instanceof TarsError)) throw error;
    ctx.log.warn(`What the Compose files mention is not known: ${error.message}`);
    return undefined;
  }
}

async function fromFiles(
  composeFiles: readonly string[],
  project: string,
  place: Place,
  ctx: OperationContext,
): Promise<StackInventory> {
  const { address, env } = place;
  const directory = dirname(composeFiles[0] ?? '.');
  const definition = await readDefinition(composeFiles, project, await composeVariables(directory, [], env));
  const resolved = await resolvedServices(composeFiles, project, place, ctx);
  const services = sketchDefinition((resolved ?? definition.services).values(), address);
  return describe(services, await findStores(undefined, services, place.kinds, ctx), place, ctx, {
    ...{ project, directory, seenThrough: 'files', composeFiles, envFiles: [] },
    ...{ atRisk: [], unusedVolumes: [] },
    mentioned: definition.files,
    optional: [...definition.optional, resolve(directory, '.env')],
    absent: [],
  });
}

/** What the operator's own Compose makes of the files, where there is one that can. */
async function resolvedServices(
  composeFiles: readonly string[],
  project: string,
  { address }: Place,
  ctx: OperationContext,
): Promise<Definition['services'] | undefined> {
  const cli = await findComposeCli(undefined, ctx.signal);
  if (cli === undefined) return undefined;
  const directory = dirname(composeFiles[0] ?? '.');
  const compose = new ComposeProject(cli, address, { project, files: composeFiles, envFiles: [], directory });
  try {
    return await definedServices(await compose.config(ctx), project);
  } catch (error) {
    if (ctx.signal.aborted || !(error instanceof TarsError)) throw error;
    ctx.log.warn(error.message);
    return undefined;
  }
}

interface Origin {
  readonly project: string;
  /** Where relative paths of the Compose files start. */
  readonly directory: string;
  readonly seenThrough: StackInventory['seenThrough'];
  readonly composeFiles: readonly string[];
  readonly envFiles: readonly string[];
  readonly unusedVolumes: readonly string[];
  readonly atRisk: readonly NotCaptured[];
  readonly mentioned: readonly string[];
  readonly optional: readonly string[];
  /** Services of the Compose files that have no container. */
  readonly absent: readonly string[];
}

async function describe(
  services: readonly SketchedService[],
  { stores, notes }: FoundRoles,
  { address, kinds }: Place,
  ctx: OperationContext,
  { mentioned, optional, absent, directory, atRisk, ...origin }: Origin,
): Promise<StackInventory> {
  const files = await findFiles(services, mentioned, optional);
  const { project, seenThrough } = origin;
  const question = {
    ...{ project, directory, isPlanned: seenThrough === 'files' },
    mounts: services.flatMap(({ mounts }) => mounts),
    images: new Map(services.map(({ service, image }) => [service, image])),
    captured: capturedBy(stores, files),
    ...endedServices(
      services.flatMap(({ container }) => container ?? []),
      kinds,
    ),
  };
  const found = await findPlaces(question, ctx);
  return {
    ...origin,
    host: hostToWrite(address),
    stores: stores.map(({ data: _data, ...store }) => store),
    // A writer that tars cannot find costs the cut, and what has ended is often removed.
    writers: allWriters(services, stores, found.places).filter(({ service }) => !question.ended.has(service)),
    files,
    ...found,
    notes: [
      ...atRisk.map(({ subject, reason }) => `NOT CAPTURED: ${subject}: ${reason}`),
      ...notes,
      ...notesOn(services, absent, address),
    ],
  };
}

/** The default socket needs no word. */
const hostToWrite = ({ host, certDir }: EngineAddress): string | undefined =>
  certDir !== undefined || host === 'unix:///var/run/docker.sock' ? undefined : host;

/** Those of the stores, and every service that writes to a directory that is captured. */
function allWriters(
  services: readonly SketchedService[],
  stores: readonly SketchedStore[],
  places: readonly FoundPlace[],
): readonly FoundWriter[] {
  const writers = findWriters(services, stores);
  const others = services.flatMap(({ service }) => {
    if ([...stores, ...writers].some((known) => known.service === service)) return [];
    const own = places.filter((place) => place.writers.includes(service));
    return own.length === 0 ? [] : [{ service, why: `writes to ${own.map(({ name }) => name).join(', ')}` }];
  });
  return [...writers, ...others];
}

/** What stores and the configuration capture. */
const capturedBy = (
  stores: readonly SketchedStore[],
  files: readonly FoundFile[],
): readonly CapturedPlace[] => [
  ...stores.map(({ data }) => data),
  ...files.filter(({ problem }) => problem === undefined).map(({ path }) => ({ tree: path })),
];

function notesOn(
  services: readonly SketchedService[],
  absent: readonly string[],
  { certDir }: EngineAddress,
): readonly string[] {
  return [
    ...(absent.length === 0
      ? []
      : [
          `The Compose files also have ${absent.join(', ')}, without a container, so tars could not look at ${absent.length === 1 ? 'it' : 'them'}: if ${absent.length === 1 ? 'it is a store' : 'one is a store'}, start it, then run tars init again or name it in tars.yaml`,
        ]),
    ...services.flatMap(({ service, buildDirectory }) =>
      buildDirectory === undefined
        ? []
        : [`${service} is built from ${buildDirectory}, which is not captured: keep it elsewhere too`],
    ),
    ...(certDir === undefined
      ? []
      : ['The Engine is reached over TLS: set DOCKER_HOST and DOCKER_CERT_PATH wherever tars runs']),
  ];
}

/** A Compose project that `tars init` can take. */
export interface FoundProject {
  readonly selector: ProjectSelector;
  /** What names it on the command line. */
  readonly flags: string;
  readonly why: string;
  /** Whether it is of the directory that was asked about. */
  readonly isHere: boolean;
}

/**
 * The projects that run from `directory`, whatever their files are called; without one, that of the Compose file there;
 * then the others of the Engine that have stores. Changes nothing.
 */
export async function findProjects(
  directory: string,
  kinds: Kinds,
  env: Environment,
): Promise<readonly FoundProject[]> {
  const composeFile = await findComposeFile(directory);
  const ofFile = composeFile === undefined ? [] : [projectOfFile(composeFile)];
  try {
    const engine = await connectEngine(await findEngine(undefined, env));
    const names = await listProjects(engine);
    const projects = await Promise.all(names.map((name) => readProject(engine, name)));
    const placed = await Promise.all(
      projects.map(async (project) => ({ project, isHere: await runsFrom(project, directory) })),
    );
    const here = placed.filter(({ isHere }) => isHere);
    const others = placed.filter(
      ({ project, isHere }) =>
        !isHere && project.containers.some((container) => isStore(container, storeTraits(kinds))),
    );
    return [...(here.length > 0 ? here.map(runningProject) : ofFile), ...others.map(runningProject)];
  } catch (error) {
    // Without an Engine there is nothing more to find.
    if (error instanceof TarsError) return ofFile;
    throw error;
  }
}

const projectOfFile = (composeFile: string): FoundProject => ({
  ...{ selector: { composeFile }, flags: `--compose ${shellWord(composeFile)}`, isHere: true },
  why: `There is a Compose file here, ${composeFile}`,
});

function runningProject({ project, isHere }: { project: Project; isHere: boolean }): FoundProject {
  const { name } = project;
  const why = isHere
    ? `The Compose project ${name} runs from this directory`
    : `Docker has a Compose project with stores, ${name}`;
  return { selector: { project: name }, flags: `--project ${name}`, why, isHere };
}
