import { randomUUID } from 'node:crypto';
import type { OperationContext } from '../../../ports/context.ts';
import type { ChromaClient } from './client.ts';
import type { DatabasePlace } from './answers.ts';
import { readAs, spellingFor, type FloatReading } from './float-spelling.ts';
import { shortestFloat, type FloatSpelling } from './metadata-json.ts';

/** Spellings that each reading turns into another float. */
const telling: readonly { readonly significand: bigint; readonly exponent: number }[] = [
  { significand: 7268790n, exponent: 24 },
  { significand: 72510556107n, exponent: 39 },
  { significand: 7326884960575020n, exponent: -25 },
];

/** How floats must be spelled for this server to store them exactly. */
export interface FloatSpellings {
  readonly records: FloatSpelling;
  readonly collections: FloatSpelling;
}

/**
 * Asks the server by storing known texts in a collection of its own, which is deleted again. A server that reads
 * them in no way known here is taken to be exact; verification shows what it stored.
 */
export async function probeFloatSpellings(
  client: ChromaClient,
  place: DatabasePlace,
  ctx: OperationContext,
): Promise<FloatSpellings> {
  const name = `tars_probe_${randomUUID()}`;
  const { id } = await client.createCollection(
    { ...place, name, metadata: new Map(), settings: undefined },
    shortestFloat,
    ctx,
  );
  try {
    const texts = telling.map(({ significand, exponent }, i) => `"k${i}":${significand}e${exponent}`);
    await client.add(place, id, `{"ids":["1"],"embeddings":[[1.0]],"metadatas":[{${texts.join(',')}}]}`, ctx);
    const request = { ids: ['1'], embeddings: false, maxResponseBytes: 1 << 20 };
    const stored = (await client.getRecords(place, id, request, ctx))?.records[0]?.metadata;
    const reads = (reading: FloatReading): boolean =>
      telling.every(
        ({ significand, exponent }, i) => stored?.get(`k${i}`) === readAs(reading, significand, exponent),
      );
    if (reads('serde-twice'))
      return { records: spellingFor('serde-twice'), collections: spellingFor('serde-once') };
    if (reads('serde-once'))
      return { records: spellingFor('serde-once'), collections: spellingFor('serde-once') };
    return { records: shortestFloat, collections: shortestFloat };
  } finally {
    await client.deleteCollection(place, name, { ...ctx, signal: AbortSignal.timeout(30_000) });
  }
}
