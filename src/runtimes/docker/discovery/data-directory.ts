import { posix } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { ConfigurationError, TarsError } from '../../../model/errors.ts';
import { openArchive } from '../engine/container-archive.ts';
import { engineError, engineStatus, type Engine } from '../engine/engine.ts';
import { argumentOf, argumentWords } from '../project/places.ts';
import type { ProjectContainer } from '../project/project.ts';
import type { StoreKind } from './recognise.ts';

const databaseFile = 'chroma.sqlite3';
/** Where the official images of Chroma keep their data: since 1.0, and before. */
const chromaDirectories = ['/data', '/chroma/chroma'] as const;
const configBytesMax = 1 << 20;

/**
 * The directory in its container where a store keeps its data.
 * @throws ConfigurationError when it could be one of several
 */
export async function dataDirectory(
  engine: Engine,
  kind: StoreKind,
  container: ProjectContainer,
): Promise<string> {
  const { environment } = container;
  switch (kind) {
    case 'postgres':
      return environment['PGDATA'] ?? '/var/lib/postgresql/data';
    case 'redis':
      return argumentOf(container, '--dir') ?? '/data';
    case 'ollama':
      return environment['OLLAMA_MODELS'] ?? '/root/.ollama/models';
    case 'chroma':
      return chromaDirectory(engine, container);
  }
}

/** The error for a directory that nothing is mounted at. */
export function notMounted(kind: StoreKind, directory: string, container: ProjectContainer): TarsError {
  const { service, name, mounts } = container;
  const old = kind === 'chroma' ? mounts.find(({ destination }) => isChromaPlace(destination)) : undefined;
  const unused =
    old === undefined
      ? ''
      : ` What is mounted at ${old.destination} is not used by this version of Chroma, whatever lies in it.`;
  return new TarsError(
    'configuration',
    `${service} keeps its data in ${directory} inside its container, which no volume or directory is mounted at: it is lost when the container is removed`,
    {
      hint: `Stop it and copy its data out first (docker stop ${name} && docker cp ${name}:${directory} .), then mount a volume with it at ${directory} in the Compose file.${unused}`,
    },
  );
}

const isChromaPlace = (destination: string): boolean =>
  chromaDirectories.some((path) => path === destination || path.startsWith(`${destination}/`));

/**
 * What the server is told decides; a directory with a database in it that the server does not use holds old data.
 * Chroma 1 knows nothing of PERSIST_DIRECTORY, nor do versions before of CHROMA_PERSIST_PATH
 * (https://docs.trychroma.com/reference/server-env-vars).
 */
async function chromaDirectory(engine: Engine, container: ProjectContainer): Promise<string> {
  const { environment, service } = container;
  const flag = argumentOf(container, '--path');
  if (flag !== undefined) return absolute(engine, container, flag);
  const words = argumentWords(container);
  const run = words.findIndex((word, i) => word === 'run' && posix.basename(words[i - 1] ?? '') === 'chroma');
  if (run >= 0) {
    const told =
      environment['CHROMA_PERSIST_PATH'] ?? (await configuredPath(engine, container, words[run + 1]));
    return absolute(engine, container, told ?? './chroma');
  }
  if (words.some((word) => /^chromadb\.app:|docker_entrypoint\.sh$/.test(word)))
    return absolute(engine, container, environment['PERSIST_DIRECTORY'] ?? '/chroma/chroma');
  // A command that says nothing: the database says where it is.
  const candidates = [
    ...['CHROMA_PERSIST_PATH', 'PERSIST_DIRECTORY'].flatMap((name) => environment[name] ?? []),
    ...chromaDirectories,
    ...container.mounts.map(({ destination }) => destination),
  ].filter((path) => path.startsWith('/'));
  const found: string[] = [];
  for (const path of new Set(candidates))
    if (await isThere(engine, container, posix.join(path, databaseFile))) found.push(path);
  if (found.length > 1) {
    throw new ConfigurationError(
      `${service} has a database of Chroma in ${found.join(' and in ')}, and tars cannot tell which of them it uses`,
      { hint: 'Remove the one that is not used, or set path of the component in tars.yaml.' },
    );
  }
  return found[0] ?? candidates[0] ?? chromaDirectories[0];
}

/** `persist_path` of the configuration file that `chroma run FILE` names. */
async function configuredPath(
  engine: Engine,
  container: ProjectContainer,
  word: string | undefined,
): Promise<string | undefined> {
  if (word === undefined || word.startsWith('-')) return undefined;
  const path = await absolute(engine, container, word);
  const text = await readFileOf(engine, container, path);
  if (text === undefined) return undefined;
  try {
    return z.object({ persist_path: z.string().optional() }).parse(parse(text)).persist_path;
  } catch (cause) {
    throw new ConfigurationError(`${path} in the container ${container.name} is no configuration of Chroma`, {
      hint: 'Set path of the component in tars.yaml to the directory with chroma.sqlite3.',
      cause,
    });
  }
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
async function readFileOf(
  engine: Engine,
  { id, name }: ProjectContainer,
  path: string,
): Promise<string | undefined> {
  const what = `Cannot read ${path} in the container ${name}`;
  const entry = await openArchive(engine, id, path, what);
  if (entry === undefined) return undefined;
  try {
    const { type, size } = entry.header;
    if (type !== 'file' || size > configBytesMax) return undefined;
    return Buffer.concat(await Array.fromAsync(entry.body)).toString('utf8');
  } finally {
    entry.close();
  }
}
