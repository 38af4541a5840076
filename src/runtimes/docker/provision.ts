import { mkdir } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ConfigurationError, RestoreRefusedError, toTarsError } from '../../model/errors.ts';
import type { ComposeRecord, RecordedVolume } from '../../model/manifest.ts';
import type { OperationContext } from '../../ports/context.ts';
import type {
  CreatedResources,
  ExistingResources,
  Provisioner,
  ProvisionPlan,
  ProvisionRequest,
} from '../../ports/provisioner.ts';
import type { EngineAddress } from '../../ports/runtime.ts';
import {
  ComposeProject,
  findComposeCli,
  installCompose,
  missingFiles,
  type ComposeCli,
  type ComposeFiles,
  type ComposeModel,
} from './compose-cli.ts';
import { engineError, type Engine } from './engine.ts';
import { containersOf } from './index.ts';
import { requireApart } from './provision-apart.ts';
import {
  createdSince,
  existing,
  hasVolume,
  neverStarted,
  removeAll,
  removeCreated,
  removeSince,
} from './provision-created.ts';
import { awaitContainerHealth } from './provision-health.ts';
import { compareImages, requireImages, type ServiceImage } from './provision-images.ts';
import { recordProject, rootOf, setRoot } from './provision-record.ts';
import { composeLabels, readProject, type Project } from './project.ts';

export interface DockerProvisionerOptions {
  readonly engine: Engine;
  /** For Compose, which makes a connection of its own. */
  readonly address: EngineAddress;
  readonly project: string;
  /** What tars.yaml says; where it says nothing, what the containers or the manifest say. */
  readonly composeFiles: readonly string[];
  readonly envFiles: readonly string[];
  /** Services of components. */
  readonly stores: ReadonlySet<string>;
  /** The project this one is a copy of and must not touch. */
  readonly apartFrom: string | undefined;
}

/** Containers and volumes of a Compose project, created by the operator's own Compose. */
export function createDockerProvisioner(options: DockerProvisionerOptions): Provisioner {
  const { engine, project, stores } = options;
  return {
    record: (ctx) => recordProject(engine, project, stores, ctx),
    plan: (request, ctx) => plan(options, request, ctx),
    existing: () => existing(engine, project),
    create: (request, before, ctx) => create(options, request, before, ctx),
    remove: (created, ctx) => removeCreated(engine, created, ctx),
    removeSince: (before, ctx) => removeSince(engine, project, before, ctx),
    async awaitHealth(service, recorded, ctx) {
      const then = recorded?.services.find(({ name }) => name === service);
      const containers = containersOf(await readProject(engine, project), service);
      const found = await Promise.all(
        containers.map((container) => awaitContainerHealth(engine, container, then, ctx)),
      );
      return found.flat();
    },
  };
}

/** Everything that is known before anything is created. */
interface Situation {
  readonly project: Project;
  readonly files: ComposeFiles;
  /** Undefined where none has to be found. */
  readonly cli: ComposeCli | undefined;
  /** Undefined until the files are there, and where there is no Compose. */
  readonly model: ComposeModel | undefined;
  /** Files that must be brought back before. */
  readonly missingFiles: readonly string[];
  /** Services that have to be created. */
  readonly missing: readonly string[];
}

async function plan(
  options: DockerProvisionerOptions,
  request: ProvisionRequest,
  ctx: OperationContext,
): Promise<ProvisionPlan> {
  const situation = await look(options, request, ctx);
  const { missing, cli, files } = situation;
  const images = imagesOf(situation, request);
  const [volumes, warnings] = [
    await missingVolumes(options, situation, request),
    await imageWarnings(options, images, request),
  ];
  await requireNothingShared(options, situation, request);
  const needed = missing.length > 0;
  const steps = needed
    ? [
        `Create the containers of ${missing.join(', ')}${volumes.length === 0 ? '' : ` and the volumes ${volumes.join(', ')}`} from ${files.files.join(', ')} with ${cli?.command.join(' ') ?? ''}; nothing is started, pulled or built`,
      ]
    : [];
  return {
    ...{ project: options.project, services: missing, volumes, needed, steps, warnings },
    start: await servicesToStart(options, missing, request),
    files: needed ? situation.missingFiles : [],
  };
}

async function look(
  options: DockerProvisionerOptions,
  { recorded, stores, restorable, whole }: ProvisionRequest,
  ctx: OperationContext,
): Promise<Situation> {
  const project = await readProject(options.engine, options.project);
  const files = filesOf(options, project, recorded);
  const here = new Set(project.containers.map(({ service }) => service));
  const wanted = [
    ...stores.map(({ service }) => service),
    ...(whole ? (recorded?.services ?? []).map(({ name }) => name) : []),
  ];
  const absent = new Set(wanted.filter((service) => !here.has(service)));
  // Among them may be a .env that Compose reads unasked, and does without.
  const gone = await missingFiles([...new Set([...files.files, ...files.envFiles, ...restorable])]);
  const nothing = { project, files, cli: undefined, model: undefined, missingFiles: gone, missing: [] };
  if (absent.size === 0 && options.apartFrom === undefined) return nothing;
  const cli = await findComposeCli(recorded?.composeVersion, ctx.signal);
  const storesHere = stores.every(({ service }) => here.has(service));
  requireTools(options.project, files, cli, gone, restorable);
  if (gone.length > 0) return { ...nothing, cli, missing: [...absent].sort() };
  const model = await new ComposeProject(cli, options.address, files).model(ctx);
  // A service that the Compose file has no more is not missed; a store that a component names is.
  const known = [...model.services.values()].filter(({ name, optional }) =>
    recorded === undefined && whole ? !optional && !here.has(name) : absent.has(name),
  );
  const missing = known.map(({ name }) => name).sort();
  const unknown = stores.find(({ service }) => absent.has(service) && !model.services.has(service));
  if (unknown !== undefined) {
    throw new ConfigurationError(
      `${files.files.join(', ')} has no service ${unknown.service}, which component ${unknown.component} is in`,
      { hint: `Correct service: of components.${unknown.component} in tars.yaml.` },
    );
  }
  return { ...nothing, cli, model, missing: storesHere && !whole ? [] : missing };
}

/** A container that was created and never started is as good as a missing one: whoever created it wants it to run. */
async function servicesToStart(
  { engine, project }: DockerProvisionerOptions,
  missing: readonly string[],
  { recorded, whole }: ProvisionRequest,
): Promise<readonly string[]> {
  const idle = whole ? await neverStarted(engine, project) : [];
  const services = idle.flatMap(({ service }) => service ?? []);
  return [...new Set([...missing, ...services])].filter((service) => {
    const then = recorded?.services.find(({ name }) => name === service);
    return then === undefined ? recorded === undefined : then.state !== 'stopped';
  });
}

/** @throws when there is no Compose, or a file is missing that nobody brings back */
function requireTools(
  project: string,
  files: ComposeFiles,
  cli: ComposeCli | undefined,
  gone: readonly string[],
  restorable: readonly string[],
): asserts cli is ComposeCli {
  if (files.files.length === 0) {
    throw new ConfigurationError(
      `The project ${project} must be created, and nothing names its Compose file`,
      {
        hint: 'Name it in docker.compose_files of tars.yaml.',
      },
    );
  }
  const lost = gone.filter((path) => !restorable.includes(path));
  if (lost.length > 0) {
    throw new RestoreRefusedError(
      `The project ${project} must be created, and its files ${lost.join(', ')} are neither here nor in what is restored`,
      { hint: 'Put them there, or name others in docker.compose_files and docker.env_files of tars.yaml.' },
    );
  }
  if (cli !== undefined) return;
  throw new RestoreRefusedError(
    `The project ${project} must be created, and there is no Docker Compose on this machine`,
    { hint: installCompose },
  );
}

function filesOf(
  { project, composeFiles, envFiles }: DockerProvisionerOptions,
  found: Project,
  recorded: ComposeRecord | undefined,
): ComposeFiles {
  const known = [
    { files: found.composeFiles, directory: found.workingDir },
    { files: recorded?.composeFiles ?? [], directory: recorded?.workingDir },
  ];
  const files = composeFiles.length > 0 ? composeFiles : (known.find((k) => k.files.length > 0)?.files ?? []);
  const directory = known.find((candidate) => isDeepStrictEqual([...candidate.files], [...files]))?.directory;
  const sameFiles = isDeepStrictEqual([...(recorded?.composeFiles ?? [])], [...files]);
  return {
    project,
    files,
    envFiles: envFiles.length > 0 || !sameFiles ? envFiles : (recorded?.envFiles ?? []),
    directory: directory ?? dirname(files[0] ?? '/'),
  };
}

/** Of the services that will run: what their containers have, and what those to be created would have. */
function imagesOf(
  { project, model, missing }: Situation,
  { recorded, stores }: ProvisionRequest,
): readonly ServiceImage[] {
  const services = new Set([...missing, ...stores.map(({ service }) => service)]);
  return [...services].flatMap((service): ServiceImage[] => {
    const [container] = containersOf(project, service);
    const planned = model?.services.get(service);
    if (container !== undefined)
      return [{ service, reference: container.image, built: false, imageId: container.imageId }];
    const reference = planned?.image ?? recorded?.services.find(({ name }) => name === service)?.image;
    return reference === undefined
      ? []
      : [{ service, reference, built: planned?.built ?? false, imageId: undefined }];
  });
}

async function imageWarnings(
  { engine }: DockerProvisionerOptions,
  images: readonly ServiceImage[],
  { recorded, stores }: ProvisionRequest,
): Promise<readonly string[]> {
  await requireImages(engine, images, recorded);
  return compareImages(engine, images, recorded, stores);
}

async function requireNothingShared(
  { engine, project, apartFrom }: DockerProvisionerOptions,
  { model }: Situation,
  { recorded }: ProvisionRequest,
): Promise<void> {
  if (apartFrom === undefined || model === undefined) return;
  const volumes = recorded?.project === apartFrom ? recorded.volumes.map(({ name }) => name) : [];
  await requireApart(engine, model, project, apartFrom, volumes);
}

async function missingVolumes(
  { engine, project }: DockerProvisionerOptions,
  { model, missing }: Situation,
  { recorded }: ProvisionRequest,
): Promise<readonly string[]> {
  if (missing.length === 0) return [];
  const names =
    model === undefined
      ? recordedVolumes(recorded, project, missing).map(({ name }) => name)
      : missing.flatMap((service) =>
          (model.services.get(service)?.mounts ?? []).flatMap(({ type, source }) =>
            type === 'volume' ? (model.volumes.get(source)?.name ?? []) : [],
          ),
        );
  const here = await Promise.all(names.map((name) => hasVolume(engine, name)));
  return [...new Set(names.filter((_, i) => here[i] === false))].sort();
}

function recordedVolumes(
  recorded: ComposeRecord | undefined,
  project: string,
  services: readonly string[],
): readonly RecordedVolume[] {
  if (recorded?.project !== project) return [];
  return recorded.volumes.filter(({ service }) => services.includes(service));
}

/** Looks again, since files may have come back meanwhile, and creates what is missing. */
async function create(
  options: DockerProvisionerOptions,
  request: ProvisionRequest,
  before: ExistingResources,
  ctx: OperationContext,
): Promise<CreatedResources> {
  const { engine, address, project } = options;
  const situation = await look(options, request, ctx);
  const { cli, model, files, missing } = situation;
  if (missing.length === 0) return { containers: [], volumes: [], networks: [] };
  if (cli === undefined || model === undefined) {
    throw new RestoreRefusedError(
      `Files of the project ${project} are missing: ${situation.missingFiles.join(', ')}`,
      { hint: 'Put them there, then run this again.' },
    );
  }
  await imageWarnings(options, imagesOf(situation, request), request);
  await requireNothingShared(options, situation, request);
  try {
    await createExternalVolumes(engine, model, missing, request.recorded);
    ctx.log.info(`Creating the containers of ${missing.join(', ')}`);
    await new ComposeProject(cli, address, files).create(missing, ctx);
    const created = await createdSince(engine, project, before);
    await restoreRoots(options, created, request.recorded);
    await createDirectories(options, created);
    return created;
  } catch (error) {
    const fresh = { ...ctx, signal: new AbortController().signal };
    const left = await removeAll(engine, await createdSince(engine, project, before), fresh);
    for (const sentence of left) ctx.log.warn(sentence);
    throw toTarsError(error, `Cannot create the containers of the project ${project}`);
  }
}

/** Compose does not create volumes of others. One that is gone is created as it was recorded. */
async function createExternalVolumes(
  engine: Engine,
  model: ComposeModel,
  services: readonly string[],
  recorded: ComposeRecord | undefined,
): Promise<void> {
  const keys = services.flatMap((service) => model.services.get(service)?.mounts ?? []).map((m) => m.source);
  for (const { name, external } of [...model.volumes]
    .filter(([key]) => keys.includes(key))
    .map(([, v]) => v)) {
    if (!external || (await hasVolume(engine, name))) continue;
    const then = recorded?.volumes.find((volume) => volume.name === name);
    if (then === undefined || then.hasOptions) {
      throw new RestoreRefusedError(`The volume ${name} is not there, and Compose does not create it`, {
        hint: `Create it as it was: docker volume create ${name}`,
      });
    }
    await engine
      .createVolume({ Name: name, Driver: then.driver, Labels: then.labels })
      .catch((error: unknown) => {
        throw engineError(error, `Cannot create the volume ${name}`);
      });
  }
}

/** What runs as a user of its own must be able to write to the root of its volume. */
async function restoreRoots(
  { engine, project }: DockerProvisionerOptions,
  { containers, volumes }: CreatedResources,
  recorded: ComposeRecord | undefined,
): Promise<void> {
  const found = await readProject(engine, project);
  const ids = new Set(containers.map(({ id }) => id));
  for (const { id, service, mounts } of found.containers.filter((container) => ids.has(container.id))) {
    for (const { volume: name, destination } of mounts) {
      const root = recordedRoot(recorded, service, name, project);
      if (root === undefined || name === undefined || !volumes.includes(name)) continue;
      if (isDeepStrictEqual(await rootOf(engine, id, destination), root)) continue;
      await setRoot(engine, id, destination, root);
    }
  }
}

/**
 * Directories of this machine that stores keep their data in: the Engine would create them, as these are, but only at
 * the start, and data is put there before.
 */
async function createDirectories(
  { engine, project, stores }: DockerProvisionerOptions,
  { containers }: CreatedResources,
): Promise<void> {
  const ids = new Set(containers.map(({ id }) => id));
  const found = await readProject(engine, project);
  const mounts = found.containers
    .filter(({ id, service }) => ids.has(id) && stores.has(service))
    .flatMap((container) => container.mounts);
  for (const { type, source, destination, readOnly } of mounts) {
    // What has an extension is a file that somebody has to bring.
    if (type !== 'bind' || readOnly || extname(destination) !== '') continue;
    await mkdir(source, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
      throw toTarsError(error, `Cannot create the directory ${source}`);
    });
  }
}

/** Under another project name a volume is known by its key in the Compose file. */
function recordedRoot(
  recorded: ComposeRecord | undefined,
  service: string,
  name: string | undefined,
  project: string,
): RecordedVolume['root'] {
  const ofService = (recorded?.volumes ?? []).filter((volume) => volume.service === service);
  return ofService.find((volume) => {
    const key = volume.labels[composeLabels.volume];
    return volume.name === name || (key !== undefined && `${project}_${key}` === name);
  })?.root;
}
