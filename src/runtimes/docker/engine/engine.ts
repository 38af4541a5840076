import type Docker from 'dockerode';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { homeDirectory } from '../../../disk/home.ts';
import { isThere } from '../../../disk/is-there.ts';
import {
  ConfigurationError,
  hasErrno,
  isSystemError,
  TarsError,
  toTarsError,
} from '../../../model/errors.ts';
import type { EngineAddress } from '../../../ports/runtime.ts';

/** A connection to an Engine's API. */
export type Engine = Docker;

/** What says where the Engine is; the process's environment in real runs. */
export type EngineEnvironment = Readonly<Record<string, string | undefined>>;

const defaultSocket = '/var/run/docker.sock';

/**
 * Finds the Engine as the `docker` command does: `host` of the configuration, DOCKER_HOST, the context named by
 * DOCKER_CONTEXT or chosen with `docker context use`, the default socket
 * (https://docs.docker.com/engine/manage-resources/contexts/).
 * @throws ConfigurationError when a context is named that is not there
 */
export async function findEngine(host: string | undefined, env: EngineEnvironment): Promise<EngineAddress> {
  if (host !== undefined) return { host };
  if (env['DOCKER_HOST']) {
    const tls = Boolean(env['DOCKER_TLS_VERIFY']) || Boolean(env['DOCKER_CERT_PATH']);
    const certDir = tls ? (env['DOCKER_CERT_PATH'] ?? configDirectory(env)) : undefined;
    return { host: env['DOCKER_HOST'], ...(certDir === undefined ? {} : { certDir }) };
  }
  const context = env['DOCKER_CONTEXT'] ?? (await chosenContext(env));
  if (context === undefined || context === '' || context === 'default')
    return { host: `unix://${defaultSocket}` };
  return contextAddress(context, env);
}

const configDirectory = (env: EngineEnvironment): string =>
  env['DOCKER_CONFIG'] ?? join(homeDirectory(env) ?? '/', '.docker');

async function chosenContext(env: EngineEnvironment): Promise<string | undefined> {
  const path = join(configDirectory(env), 'config.json');
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw toTarsError(error, `Cannot read ${path}`);
  });
  if (text === undefined) return undefined;
  return parseJson(text, path, z.object({ currentContext: z.string().optional() })).currentContext;
}

const contextSchema = z.object({
  Endpoints: z.object({ docker: z.object({ Host: z.string() }) }),
});

/** Contexts are kept under the SHA-256 of their name (docker/cli, `cli/context/store`). */
async function contextAddress(name: string, env: EngineEnvironment): Promise<EngineAddress> {
  const id = createHash('sha256').update(name).digest('hex');
  const base = join(configDirectory(env), 'contexts');
  const path = join(base, 'meta', id, 'meta.json');
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new ConfigurationError(`The Docker context ${name} cannot be read`, {
      hint: 'List the contexts with `docker context ls`, or set docker.host in tars.yaml.',
      cause,
    });
  });
  const { Host: host } = parseJson(text, path, contextSchema).Endpoints.docker;
  const certDir = join(base, 'tls', id, 'docker');
  const hasCertificates = await isThere(join(certDir, 'cert.pem'));
  return { host, ...(hasCertificates ? { certDir } : {}) };
}

function parseJson<T>(text: string, path: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new ConfigurationError(`${path} is not a configuration of Docker`, { cause });
  }
}

/** A client of the Engine at `address`. Opens nothing yet. */
export async function connectEngine({ host, certDir }: EngineAddress): Promise<Engine> {
  const url = parseHost(host);
  // Loaded only here: it takes half as long to load as all the rest, and most runs ask no Engine.
  const { default: Docker } = await import('dockerode');
  if (url.protocol === 'unix:') return new Docker({ socketPath: url.pathname });
  if (url.protocol === 'ssh:') {
    throw new ConfigurationError(`The Engine at ${host} is reached over SSH, which tars does not support`, {
      hint: 'Run tars on that machine, or forward its socket and set docker.host in tars.yaml to the forwarded one.',
    });
  }
  const pem = async (name: string): Promise<string> => readFile(join(certDir ?? '', name), 'utf8');
  const tls =
    certDir === undefined
      ? {}
      : { ca: await pem('ca.pem'), cert: await pem('cert.pem'), key: await pem('key.pem') };
  return new Docker({
    protocol: certDir === undefined ? 'http' : 'https',
    host: url.hostname,
    port: Number(url.port) || (certDir === undefined ? 2375 : 2376),
    ...tls,
  });
}

function parseHost(host: string): URL {
  try {
    return new URL(host.startsWith('/') ? `unix://${host}` : host);
  } catch (cause) {
    throw new ConfigurationError(`${host} is not the address of a Docker Engine`, {
      hint: 'Give it as unix:///var/run/docker.sock or tcp://host:port.',
      cause,
    });
  }
}

const apiErrorSchema = z.object({
  statusCode: z.number(),
  // An answer without a body, as 304 is, comes as an empty buffer.
  json: z.object({ message: z.string() }).nullish().catch(undefined),
  reason: z.string().nullish(),
});

/** An Engine that is well answers at once; one that hangs never does. */
const answerTimeoutMs = 30_000;

/** For calls that the Engine answers without working long. */
export function answerLimit(
  signal?: AbortSignal,
  timeoutMs = answerTimeoutMs,
): { readonly abortSignal: AbortSignal } {
  const limit = AbortSignal.timeout(timeoutMs);
  return { abortSignal: signal === undefined ? limit : AbortSignal.any([signal, limit]) };
}

const isLate = (error: unknown): boolean =>
  error instanceof Error && error.cause instanceof DOMException && error.cause.name === 'TimeoutError';

/** The HTTP status of an error the Engine answered with. */
export function engineStatus(error: unknown): number | undefined {
  const parsed = apiErrorSchema.safeParse(error);
  return parsed.success ? parsed.data.statusCode : undefined;
}

/** Turns what the client threw into a TarsError; `what` as in {@link toTarsError}. */
export function engineError(error: unknown, what: string): TarsError {
  if (error instanceof TarsError) return error;
  const answered = apiErrorSchema.safeParse(error);
  if (answered.success) {
    const { statusCode, json, reason } = answered.data;
    const code = statusCode === 404 ? 'service-unavailable' : 'subprocess';
    return new TarsError(code, `${what}: ${json?.message ?? reason ?? `the Engine answered ${statusCode}`}`, {
      context: { statusCode },
      cause: error,
    });
  }
  if (hasErrno(error, 'EACCES') || hasErrno(error, 'EPERM')) {
    return new TarsError('access-denied', `${what}: this user may not talk to the Docker Engine`, {
      hint: 'Run tars as root, or add the user to the group docker (usermod -aG docker USER) and log in again.',
      cause: error,
    });
  }
  if (isLate(error)) {
    return new TarsError('timeout', `${what}: the Docker Engine did not answer in time`, {
      hint: 'Check whether `docker ps` answers; if not, restart Docker.',
      cause: error,
    });
  }
  if (isSystemError(error)) {
    return new TarsError(
      'service-unavailable',
      `${what}: the Docker Engine does not answer (${error.code})`,
      {
        hint: 'Start Docker, or give its address: DOCKER_HOST, or docker.host in tars.yaml.',
        cause: error,
      },
    );
  }
  return toTarsError(error, what);
}
