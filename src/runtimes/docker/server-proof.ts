import { endianness } from 'node:os';
import { posix } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ServiceUnavailableError, TarsError, WrongServerError } from '../../model/errors.ts';
import type { ProgramCall } from '../../ports/programs.ts';
import type { ServerClaim, ServerProof } from '../../ports/server-proof.ts';
import { openArchive } from './engine/container-archive.ts';
import type { Engine } from './engine/engine.ts';
import { containerRunner } from './engine/exec.ts';
import { addressOf } from './project/places.ts';
import { readContainer, type ProjectContainer } from './project/project.ts';

/** The server that is expected, and how it was found. */
interface ExpectedServer {
  readonly container: ProjectContainer;
  /** In the container. */
  readonly port: number;
  /** Whether tars.yaml names the address; otherwise it is the container's own. */
  readonly addressIsGiven: boolean;
  /** Where a PostgreSQL keeps its data, unless it says so itself. */
  readonly dataDirectory?: string | undefined;
  /** Prints `INFO server` of a Redis, run in its container. */
  readonly askRunId?: ProgramCall | undefined;
}

/**
 * Compares what a server claims with its container as the Engine sees it now: that it runs, that the address is still
 * its own, that the connection ends in its network, and that the server works on the files that are in it.
 */
export function createServerProof(engine: Engine, expected: ExpectedServer): ServerProof {
  return {
    async require(claim, signal) {
      const { container, port, addressIsGiven } = expected;
      const now = await readContainer(engine, container.id, signal);
      if (now?.state !== 'running') throw gone(container);
      if (!addressIsGiven && !isDeepStrictEqual(addressOf(now, port), addressOf(container, port)))
        throw gone(container);
      const addressIsOwn = requireAddress(claim, now);
      await requireDataDirectory(engine, expected, claim, signal);
      if (addressIsOwn !== true) await requireRunId(engine, expected, claim, signal);
    },
  };
}

/** @returns undefined when it cannot be told */
function requireAddress({ address }: ServerClaim, container: ProjectContainer): boolean | undefined {
  const own = [...container.addresses, ...container.addresses6];
  if (address === undefined || own.length === 0) return undefined;
  // A server listening on IPv6 sees IPv4 addresses as such.
  if (own.includes(address.replace(/^::ffff:/i, ''))) return true;
  if (address.includes(':') && container.addresses6.length === 0) return undefined;
  throw wrong(container, `its end of the connection is ${address}, and the container's is ${own.join(', ')}`);
}

async function requireDataDirectory(
  engine: Engine,
  { container, dataDirectory }: ExpectedServer,
  { systemIdentifier, dataDirectory: told }: ServerClaim,
  signal: AbortSignal,
): Promise<void> {
  const directory = told ?? dataDirectory;
  if (directory === undefined || systemIdentifier === undefined) return;
  const own = await identifierIn(engine, container, directory, signal);
  if (own === undefined && told === undefined) return;
  if (own === undefined)
    throw wrong(container, `it keeps its data in ${told}, which the container does not have`);
  if (own !== systemIdentifier)
    throw wrong(container, `its system identifier is ${systemIdentifier}, and the container's is ${own}`);
}

/** `system_identifier`, the first field of `global/pg_control` (PostgreSQL's `catalog/pg_control.h`). */
async function identifierIn(
  engine: Engine,
  { id, name }: ProjectContainer,
  directory: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const path = posix.join(directory, 'global/pg_control');
  const entry = await openArchive(engine, id, path, `Cannot read ${path} in the container ${name}`, signal);
  try {
    if (entry?.header.type !== 'file') return undefined;
    const bytes = Buffer.concat(await Array.fromAsync(entry.body));
    if (bytes.length < 8) return undefined;
    return String(endianness() === 'LE' ? bytes.readBigInt64LE() : bytes.readBigInt64BE());
  } finally {
    entry?.close();
  }
}

async function requireRunId(
  engine: Engine,
  { container, askRunId }: ExpectedServer,
  { runId }: ServerClaim,
  signal: AbortSignal,
): Promise<void> {
  if (askRunId === undefined || runId === undefined) return;
  const own = await runIdIn(engine, container, askRunId, signal);
  if (own === undefined || own === runId) return;
  throw wrong(container, `its run_id is ${runId}, and the container's is ${own}`);
}

/** Undefined where the image has no client, or the server does not let it in. */
async function runIdIn(
  engine: Engine,
  { id }: ProjectContainer,
  call: ProgramCall,
  signal: AbortSignal,
): Promise<string | undefined> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of containerRunner(engine, id).output(call, signal)) pieces.push(piece);
  } catch (error) {
    if (error instanceof TarsError && error.code === 'subprocess') return undefined;
    throw error;
  }
  return /^run_id:(\w+)/m.exec(Buffer.concat(pieces).toString())?.[1];
}

const wrong = ({ name, service }: ProjectContainer, why: string): WrongServerError =>
  new WrongServerError(
    `The server that answers for ${service} is not the one in the container ${name}: ${why}`,
    {
      hint: `Remove host, port and url of the component from tars.yaml, so that tars uses the address of the container. Then run this again.`,
    },
  );

const gone = ({ name, service }: ProjectContainer): ServiceUnavailableError =>
  new ServiceUnavailableError(`The container ${name} of ${service} no longer runs, or has another address`, {
    hint: 'Start it, then run this again.',
  });
