import { RestoreRefusedError, toTarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type {
  CreatedResources,
  ExistingResources,
  Provisioner,
  ProvisionPlan,
  ProvisionRequest,
} from '../../../ports/provisioner.ts';
import { ComposeProject, type ComposeFiles } from '../compose/compose-cli.ts';
import { composeVariables } from '../compose/env-files.ts';
import { containersOf } from '../project/project.ts';
import { requireApart } from './apart.ts';
import { createdSince, existing, neverStarted, removeAll, removeCreated, removeSince } from './created.ts';
import { awaitContainerHealth, logEndOf } from './health.ts';
import { compareImages, requireImages, type ServiceImage } from './images.ts';
import { readShellVariables, recordProject } from './record.ts';
import { readSituation, type DockerProvisionerOptions, type Situation } from './situation.ts';
import { createDirectories } from './binds.ts';
import { createExternals, externalSteps, missingExternals } from './externals.ts';
import { missingVolumes, restoreRoots } from './volumes.ts';
import { readProject } from '../project/project.ts';
import { readShellFile } from '../compose/shell-file.ts';

/** Containers and volumes of a Compose project, created by the operator's own Compose. */
export function createDockerProvisioner(options: DockerProvisionerOptions): Provisioner {
  const { engine, project } = options;
  return {
    record: (ctx) => recordProject(options, ctx),
    shellVariables: ({ signal }) => readShellVariables(engine, options, signal),
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
    async logEnd(service) {
      const containers = containersOf(await readProject(engine, project), service);
      const ends = await Promise.all(containers.map((container) => logEndOf(engine, container)));
      return ends.filter((text) => text !== '').join('\n');
    },
  };
}

async function plan(
  options: DockerProvisionerOptions,
  request: ProvisionRequest,
  ctx: OperationContext,
): Promise<ProvisionPlan> {
  const situation = await readSituation(options, request, ctx);
  const { missing, cli, files } = situation;
  const images = imagesOf(situation, request);
  const volumes = await missingVolumes(options, situation, request);
  const warnings = [...(await imageWarnings(options, images, request))];
  await requireNothingShared(options, situation, request);
  const externals = await missingExternals(options.engine, situation, request);
  const needed = missing.length > 0;
  const unset = needed ? await unsetVariables(request.recorded?.shellVariables ?? [], files) : [];
  if (unset.length > 0) warnings.push(unsetWarning(unset));
  const steps = needed
    ? [
        ...externalSteps(externals),
        `Create the containers of ${missing.join(', ')}${volumes.length === 0 ? '' : ` and the volumes ${volumes.join(', ')}`} from ${files.files.join(', ')} with ${cli?.command.join(' ') ?? ''}; nothing is started, pulled or built`,
      ]
    : [];
  return {
    ...{ project: options.project, services: missing, volumes, needed, steps, warnings },
    start: await servicesToStart(options, missing, request),
    files: needed ? situation.missingFiles : [],
  };
}

/** Those of `names` that Compose will not find, neither in files nor in the environment of this process. */
async function unsetVariables(
  names: readonly string[],
  { directory, envFiles }: ComposeFiles,
): Promise<readonly string[]> {
  const variables = {
    ...(await readShellFile(directory)),
    ...(await composeVariables(directory, envFiles, process.env)),
  };
  return names.filter((name) => variables[name] === undefined);
}

const unsetWarning = (names: readonly string[]): string =>
  `The Compose files use ${names.join(', ')}, which only a shell defined at the capture. Set ${names.length === 1 ? 'it' : 'them'} in this shell or in .env first; otherwise the containers are created differently`;

/** A container that was created and never started counts as missing: its creator wants it to run. */
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

/** Looks again, since files may have come back meanwhile, and creates what is missing. */
async function create(
  options: DockerProvisionerOptions,
  request: ProvisionRequest,
  before: ExistingResources,
  ctx: OperationContext,
): Promise<CreatedResources> {
  const { engine, address, project } = options;
  const situation = await readSituation(options, request, ctx);
  const { cli, model, files, missing } = situation;
  const [first, ...others] = missing;
  if (first === undefined) return { containers: [], volumes: [], networks: [] };
  if (cli === undefined || model === undefined) {
    throw new RestoreRefusedError(
      `Files of the project ${project} are missing: ${situation.missingFiles.join(', ')}`,
      { hint: 'Put them there, then run this again.' },
    );
  }
  await imageWarnings(options, imagesOf(situation, request), request);
  await requireNothingShared(options, situation, request);
  const externals = await missingExternals(engine, situation, request);
  const own: { networks: string[]; volumes: string[] } = { networks: [], volumes: [] };
  const directories: string[] = [];
  const createdNow = async (): Promise<CreatedResources> => {
    const created = await createdSince(engine, project, before);
    return {
      ...created,
      networks: [...created.networks, ...own.networks],
      volumes: [...new Set([...created.volumes, ...own.volumes])],
      directories,
    };
  };
  try {
    await createExternals(engine, externals, own, ctx);
    ctx.log.info(`Creating the containers of ${missing.join(', ')}`);
    await new ComposeProject(cli, address, files).create([first, ...others], ctx);
    const created = await createdNow();
    // Before anything is read through a container: the Engine then creates as root's what is missing.
    directories.push(...(await createDirectories(options, created, request.recorded)));
    await restoreRoots(options, created, request.recorded);
    return { ...created, directories };
  } catch (error) {
    const fresh = { ...ctx, signal: new AbortController().signal };
    const left = await removeAll(engine, await createdNow(), fresh);
    for (const sentence of left) ctx.log.warn(sentence);
    throw toTarsError(error, `Cannot create the containers of the project ${project}`);
  }
}
