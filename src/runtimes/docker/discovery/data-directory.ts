import { posix } from 'node:path';
import { TarsError } from '../../../model/errors.ts';
import type { ContainerWithFiles, RecognitionSlot } from '../../../ports/kind.ts';
import { openArchive } from '../engine/container-archive.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';
import type { ProjectContainer } from '../project/project.ts';

const textBytesMax = 1 << 20;

/**
 * The directory in its container where a store keeps its data.
 * @throws ConfigurationError when it could be one of several
 */
export async function dataDirectory(
  engine: Engine,
  { dataDirectory: ask, expectedDirectory }: Pick<RecognitionSlot, 'dataDirectory' | 'expectedDirectory'>,
  container: ProjectContainer,
): Promise<string> {
  return ask === undefined ? expectedDirectory(container) : ask(withFiles(engine, container));
}

/** The error for a directory that nothing is mounted at. */
export function notMounted(
  { isUnusedMount, title }: Pick<RecognitionSlot, 'isUnusedMount' | 'title'>,
  directory: string,
  container: ProjectContainer,
): TarsError {
  const { service, name, mounts } = container;
  const old = mounts.find(({ destination }) => isUnusedMount?.(destination) === true);
  const unused =
    old === undefined
      ? ''
      : ` What is mounted at ${old.destination} is not used by this version of ${title}, whatever lies in it.`;
  return new TarsError(
    'configuration',
    `${service} keeps its data in ${directory} inside its container, which no volume or directory is mounted at: it is lost when the container is removed`,
    {
      hint: `Stop it and copy its data out first (docker stop ${name} && docker cp ${name}:${directory} .), then mount a volume with it at ${directory} in the Compose file.${unused}`,
    },
  );
}

function withFiles(engine: Engine, container: ProjectContainer): ContainerWithFiles {
  const { service, name, image, environment, argv, mounts } = container;
  return {
    ...{ service, name, image, environment, argv },
    mountedAt: mounts.map(({ destination }) => destination),
    absolute: (path) => absolute(engine, container, path),
    exists: (path) => isThere(engine, container, path),
    read: (path) => readText(engine, container, path),
  };
}

/** `path` as the container's main process sees it. */
async function absolute(engine: Engine, container: ProjectContainer, path: string): Promise<string> {
  const withoutSlash = (whole: string): string => (whole.length > 1 ? whole.replace(/\/+$/, '') : whole);
  if (path.startsWith('/')) return withoutSlash(posix.normalize(path));
  try {
    const { Config } = await engine.getContainer(container.id).inspect();
    return withoutSlash(posix.resolve('/', Config.WorkingDir, path));
  } catch (error) {
    throw engineError(error, `Cannot look at the container ${container.name}`);
  }
}

/** Whether the container has something at `path`, in a mount or not, running or not. */
async function isThere(engine: Engine, { id, name }: ProjectContainer, path: string): Promise<boolean> {
  try {
    await engine.getContainer(id).infoArchive({ path });
    return true;
  } catch (error) {
    if (engineStatus(error) === 404) return false;
    throw engineError(error, `Cannot look at ${path} in the container ${name}`);
  }
}

/** A small file of the container as text; undefined when it is not there. */
async function readText(
  engine: Engine,
  { id, name }: ProjectContainer,
  path: string,
): Promise<string | undefined> {
  const what = `Cannot read ${path} in the container ${name}`;
  const entry = await openArchive(engine, id, path, what);
  if (entry === undefined) return undefined;
  try {
    const { type, size } = entry.header;
    if (type !== 'file' || size > textBytesMax) return undefined;
    return Buffer.concat(await Array.fromAsync(entry.body)).toString('utf8');
  } finally {
    entry.close();
  }
}
