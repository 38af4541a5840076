import { dirname } from 'node:path';
import tar from 'tar-stream';
import { throwIfAborted } from '../../../model/abort.ts';
import type { ComposeRecord, RecordedService, RecordedVolume } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { ShellVariables } from '../../../ports/provisioner.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';
import { TarsError } from '../../../model/errors.ts';
import { ComposeProject, findComposeCli, type ComposeFiles } from '../compose/compose-cli.ts';
import { openArchive } from '../engine/container-archive.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { composeVariables } from '../compose/env-files.ts';
import { readComposeTexts } from '../compose/includes.ts';
import { recordBinds } from './binds.ts';
import { inspectImage, orElse } from './images.ts';
import { recordNetworks } from './networks.ts';
import { noSuchProject } from '../project/places.ts';
import { shellVariables } from '../compose/shell-variables.ts';
import { readProject, type Project, type ProjectContainer } from '../project/project.ts';

const configHashLabel = 'com.docker.compose.config-hash';
const versionLabel = 'com.docker.compose.version';

/** Which project is recorded. */
interface RecordedProject {
  readonly engine: Engine;
  /** For Compose, which makes a connection of its own. */
  readonly address: EngineAddress;
  readonly project: string;
  /** What tars.yaml says, before what the containers say. */
  readonly composeFiles: readonly string[];
  readonly envFiles: readonly string[];
}

/** See {@link shellVariables}. */
export async function readShellVariables(
  engine: Engine,
  given: Pick<RecordedProject, 'project' | 'composeFiles' | 'envFiles'>,
  signal?: AbortSignal,
): Promise<ShellVariables> {
  const project = await readProject(engine, given.project, signal);
  const { containers, composeFiles, workingDir } = project;
  const files = given.composeFiles.length > 0 ? given.composeFiles : composeFiles;
  const envFiles = given.envFiles.length > 0 ? given.envFiles : project.envFiles;
  const [first] = files;
  const directory = workingDir ?? (first === undefined ? undefined : dirname(first));
  if (directory === undefined) return { directory, variables: [] };
  const variables = await composeVariables(directory, envFiles, {});
  const texts = await readComposeTexts(files, directory, variables);
  return {
    directory,
    variables: shellVariables(texts, new Map(containers.map((container) => [container.service, container]))),
  };
}

/**
 * Services that Compose would create otherwise than they run, from the files as they are now and the variables that
 * containers show. None where there is no Compose of the version that made them: each has digests of its own.
 */
async function changedServices(
  { address }: RecordedProject,
  { name, containers }: Project,
  files: Pick<ComposeFiles, 'files' | 'envFiles'>,
  { directory, variables }: ShellVariables,
  ctx: OperationContext,
): Promise<readonly string[]> {
  const made = containers.map(({ labels }) => labels[versionLabel]).find(Boolean);
  const cli = await findComposeCli(made, ctx.signal);
  if (cli === undefined || directory === undefined || cli.version !== made) return [];
  const known = Object.fromEntries(variables.map((variable) => [variable.name, variable.value]));
  const compose = new ComposeProject(cli, address, { project: name, ...files, directory, variables: known });
  try {
    const hashes = await compose.hashes(ctx);
    return [...new Set(containers.map(({ service }) => service))].filter((service) => {
      const hash = hashes.get(service);
      const own = containers.filter((container) => container.service === service);
      return hash !== undefined && own.some(({ labels }) => (labels[configHashLabel] ?? hash) !== hash);
    });
  } catch (error) {
    if (ctx.signal.aborted || !(error instanceof TarsError)) throw error;
    ctx.log.warn(
      `It is unknown whether the containers were created from these Compose files: ${error.message}`,
    );
    return [];
  }
}

const changedWarning = (services: readonly string[]): string =>
  services.length === 1
    ? `${services[0] ?? ''} does not run as its Compose files now describe it, and a restore would create it as the files describe. Run docker compose up -d, or correct the files`
    : `${services.join(', ')} do not run as their Compose files now describe them, and a restore would create them as the files describe. Run docker compose up -d, or correct the files`;

/**
 * The project as it is now: what its services run, and the volumes of the stores.
 * @throws ConfigurationError when nothing of it is there
 */
export async function recordProject(given: RecordedProject, ctx: OperationContext): Promise<ComposeRecord> {
  const { engine, project: projectName } = given;
  const found = await readProject(engine, projectName);
  const { containers, composeFiles, workingDir } = found;
  throwIfAborted(ctx.signal);
  if (containers.length === 0) throw await noSuchProject(engine, projectName);
  const services = await Promise.all(containers.map((container) => recordService(engine, container, ctx)));
  const volumes: RecordedVolume[] = [];
  for (const container of containers) volumes.push(...(await recordVolumes(engine, container, ctx)));
  const shell =
    (await unlessUnknown('Environment of the shell', readShellVariables(engine, given), ctx)) ?? noVariables;
  const files = {
    files: given.composeFiles.length > 0 ? given.composeFiles : composeFiles,
    envFiles: given.envFiles.length > 0 ? given.envFiles : found.envFiles,
  };
  const changed = await changedServices(given, found, files, shell, ctx);
  if (changed.length > 0) ctx.log.warn(changedWarning(changed));
  const composeVersion = containers.map(({ labels }) => labels[versionLabel]).find(Boolean);
  return {
    project: projectName,
    ...(composeVersion === undefined ? {} : { composeVersion }),
    ...(workingDir === undefined ? {} : { workingDir }),
    composeFiles: [...composeFiles],
    envFiles: [...found.envFiles],
    ...(shell.variables.length === 0 ? {} : { shellVariables: shell.variables.map((each) => each.name) }),
    services,
    volumes,
    networks: (await unlessUnknown('The networks', recordNetworks(engine, found), ctx)) ?? [],
    binds: await recordBinds(containers),
  };
}

const noVariables: ShellVariables = { directory: undefined, variables: [] };

/** What cannot be found out of one thing is reported, and costs the record of no other. */
async function unlessUnknown<T>(
  subject: string,
  look: Promise<T>,
  { signal, log }: OperationContext,
): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    throwIfAborted(signal);
    if (!(error instanceof TarsError)) throw error;
    log.warn(`${subject}: not recorded, so a restore cannot create it again. ${error.message}`);
    return undefined;
  }
}

async function recordService(
  engine: Engine,
  container: ProjectContainer,
  ctx: OperationContext,
): Promise<RecordedService> {
  const { service, name, image, imageId, state, health, labels } = container;
  const configHash = labels[configHashLabel];
  const found = await unlessUnknown(
    `The origin of the image of ${service}`,
    inspectImage(engine, imageId),
    ctx,
  );
  return {
    name: service,
    container: name,
    image,
    imageId,
    repoDigests: [...(found?.repoDigests ?? [])],
    state,
    ...(health === undefined ? {} : { health }),
    ...(configHash === undefined ? {} : { configHash }),
  };
}

async function recordVolumes(
  engine: Engine,
  container: ProjectContainer,
  ctx: OperationContext,
): Promise<RecordedVolume[]> {
  const volumes: RecordedVolume[] = [];
  for (const { type, volume: name, destination } of container.mounts) {
    if (type !== 'volume' || name === undefined) continue;
    const look = engine
      .getVolume(name)
      .inspect()
      .catch((error: unknown) => {
        throw engineError(error, `Cannot inspect the volume ${name}`);
      });
    const volume = await unlessUnknown(`The volume ${name} of ${container.service}`, look, ctx);
    if (volume === undefined) continue;
    const what = `The owner and mode of ${destination} of ${container.service} (volume ${name})`;
    const root = await unlessUnknown(what, rootOf(engine, container.id, destination), ctx);
    volumes.push({
      name,
      service: container.service,
      driver: volume.Driver,
      labels: orElse(volume.Labels, {}),
      hasOptions: Object.keys(orElse<object>(volume.Options, {})).length > 0,
      ...(root === undefined ? {} : { root }),
    });
  }
  return volumes;
}

/** Owner and mode of a directory in a container: those of the first entry of its archive, of which no more is read. */
export async function rootOf(
  engine: Engine,
  containerId: string,
  path: string,
): Promise<RecordedVolume['root'] | undefined> {
  const what = `Cannot access ${path} in the container ${containerId.slice(0, 12)}`;
  const entry = await openArchive(engine, containerId, path, what);
  if (entry === undefined) return undefined;
  entry.close();
  const { uid, gid, mode } = entry.header;
  return { uid, gid, mode: mode & 0o7777 };
}

/**
 * Gives a directory of a container the owner and mode it had. The Engine applies them only to entries of an archive,
 * so the directory is one, unpacked where it lies.
 */
export async function setRoot(
  engine: Engine,
  containerId: string,
  path: string,
  { uid, gid, mode }: NonNullable<RecordedVolume['root']>,
): Promise<void> {
  const at = path.lastIndexOf('/');
  const pack = tar.pack();
  pack.entry({ name: `${path.slice(at + 1)}/`, type: 'directory', uid, gid, mode });
  pack.finalize();
  const pieces: Uint8Array[] = [];
  for await (const piece of pack) pieces.push(piece as Uint8Array);
  try {
    const parent = path.slice(0, at) || '/';
    await engine.getContainer(containerId).putArchive(Buffer.concat(pieces), { path: parent });
  } catch (error) {
    throw engineError(error, `Cannot set the owner of ${path} in the container ${containerId.slice(0, 12)}`);
  }
}
