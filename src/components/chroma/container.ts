import { posix } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { argumentOf, argumentWords } from '../../model/container-arguments.ts';
import { ConfigurationError } from '../../model/errors.ts';
import type { ContainerSketch, ContainerSlot, ContainerWithFiles } from '../../ports/kind.ts';
import type { ChromaSettings } from './settings.ts';

const databaseFile = 'chroma.sqlite3';
/** Where the official images keep their data: since 1.0, and before. */
const usualDirectories = ['/data', '/chroma/chroma'] as const;
const heartbeat = z.object({ 'nanosecond heartbeat': z.number() });

export const container: ContainerSlot<ChromaSettings> = {
  recognition: {
    title: 'Chroma',
    labels: ['chroma', 'chromadb'],
    images: /^(chroma|chromadb)$/,
    port: 8000,
    isPortTelling: false,
    async answers(address, ask) {
      for (const version of ['v2', 'v1'])
        if (heartbeat.safeParse(await ask.json(address, `/api/${version}/heartbeat`)).success) return true;
      return false;
    },
    programRole: ({ name, args }) => {
      if (name === 'chroma' && args.length > 0) return args[0] === 'run' ? 'server' : 'client';
      return args.some((word) => word.startsWith('chromadb.app:')) ? 'server' : undefined;
    },
    expectedDirectory,
    dataDirectory,
    isUnusedMount: (destination) =>
      usualDirectories.some((path) => path === destination || path.startsWith(`${destination}/`)),
    riskIfUnmounted: 'AT RISK',
  },
  access: {
    through: 'both',
    // It is restored through its server.
    unmounted: 'capture and restore',
    givenAddress: ({ url }) => url,
  },
};

function expectedDirectory(sketch: ContainerSketch): string {
  const { environment, image } = sketch;
  const before1 = /:0\.\d/.test(image);
  const old = environment['PERSIST_DIRECTORY'] ?? '/chroma/chroma';
  return argumentOf(sketch, '--path') ?? (before1 ? old : (environment['CHROMA_PERSIST_PATH'] ?? '/data'));
}

/**
 * What the server is told decides; a directory with a database in it that the server does not use holds old data.
 * Chroma 1 knows nothing of PERSIST_DIRECTORY, nor do versions before of CHROMA_PERSIST_PATH
 * (https://docs.trychroma.com/reference/server-env-vars).
 */
async function dataDirectory(container: ContainerWithFiles): Promise<string> {
  const { environment, service } = container;
  const flag = argumentOf(container, '--path');
  if (flag !== undefined) return container.absolute(flag);
  const words = argumentWords(container);
  const run = words.findIndex((word, i) => word === 'run' && posix.basename(words[i - 1] ?? '') === 'chroma');
  if (run >= 0) {
    const told = environment['CHROMA_PERSIST_PATH'] ?? (await configuredPath(container, words[run + 1]));
    return container.absolute(told ?? './chroma');
  }
  if (words.some((word) => /^chromadb\.app:|docker_entrypoint\.sh$/.test(word)))
    return container.absolute(environment['PERSIST_DIRECTORY'] ?? '/chroma/chroma');
  // A command that says nothing: the database says where it is.
  const candidates = [
    ...['CHROMA_PERSIST_PATH', 'PERSIST_DIRECTORY'].flatMap((name) => environment[name] ?? []),
    ...usualDirectories,
    ...container.mountedAt,
  ].filter((path) => path.startsWith('/'));
  const found: string[] = [];
  for (const path of new Set(candidates))
    if (await container.exists(posix.join(path, databaseFile))) found.push(path);
  if (found.length > 1) {
    throw new ConfigurationError(
      `${service} has a database of Chroma in ${found.join(' and in ')}, and tars cannot tell which of them it uses`,
      { hint: 'Remove the one that is not used, or set path of the component in tars.yaml.' },
    );
  }
  return found[0] ?? candidates[0] ?? usualDirectories[0];
}

/** `persist_path` of the configuration file that `chroma run FILE` names. */
async function configuredPath(
  container: ContainerWithFiles,
  word: string | undefined,
): Promise<string | undefined> {
  if (word === undefined || word.startsWith('-')) return undefined;
  const path = await container.absolute(word);
  const text = await container.read(path);
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
