import { ServiceUnavailableError, TarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { ChromaClient } from './client.ts';
import { ChromaResponseError, type ChromaEndpoint } from './transport.ts';

/** A Chroma server that speaks the v2 API. */
interface DetectedServer {
  readonly client: ChromaClient;
  /** What it says of itself: `1.0.0` on every 1.x. */
  readonly version: string;
}

/**
 * Finds out whether the server can be captured and restored over HTTP: Chroma 0.5.16 and later speak the v2 API.
 * @throws ServiceUnavailableError when nothing answers, or something that is no Chroma
 * @throws TarsError `unsupported-version` for a server that speaks only v1 (0.4.x to 0.5.15)
 * @throws WrongServerError when the address is another server's
 * @throws TarsError `access-denied` when it wants other headers
 */
export async function detectServer(
  endpoint: ChromaEndpoint,
  ctx: Pick<OperationContext, 'signal' | 'clock'>,
): Promise<DetectedServer> {
  await endpoint.proof?.require({}, ctx.signal);
  const client = new ChromaClient(endpoint);
  try {
    await client.heartbeat('v2', ctx);
  } catch (error) {
    if (!(error instanceof ChromaResponseError)) throw error;
    if (error.status >= 500 || error.code === 'access-denied') throw error;
    throw await withoutV2(client, error, ctx);
  }
  return { client, version: await client.version('v2', ctx) };
}

async function withoutV2(
  client: ChromaClient,
  cause: ChromaResponseError,
  ctx: Pick<OperationContext, 'signal' | 'clock'>,
): Promise<TarsError> {
  try {
    await client.heartbeat('v1', ctx);
  } catch (error) {
    if (!(error instanceof ChromaResponseError)) throw error;
    return new ServiceUnavailableError(`The server at ${client.location} is not a Chroma server`, {
      hint: 'Correct the url of Chroma in tars.yaml; it is the address without /api.',
      cause,
    });
  }
  const version = await client.version('v1', ctx).catch(() => 'of unknown number');
  return new TarsError(
    'unsupported-version',
    `Chroma at ${client.location} is version ${version} and speaks only the v1 API; tars speaks v2 (Chroma 0.5.16 and later)`,
    {
      hint: 'Give the path of its persist directory in tars.yaml for a physical capture, or upgrade the server.',
      context: { version },
    },
  );
}
