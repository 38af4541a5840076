import { throwIfAborted } from '../../../model/abort.ts';
import { messageOf } from '../../../model/errors.ts';
import { counted } from '../../../model/plural.ts';
import type { SwapRecord } from '../../../model/restore-plan.ts';
import type { ComponentProbe, Generation } from '../../../ports/component.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { singleUse } from '../../restore/single-use.ts';
import { unknownDirectory, unreachable, type ChromaStore, type ChromaWay } from '../way.ts';
import { defaultTenants, prepareLogicalCapture } from './capture.ts';
import { detectServer } from './detect.ts';
import { planLogicalRestore } from './plan.ts';
import { stageLogicalRestore } from './stage.ts';
import { logicalGeneration, removeStagedCollections } from './swap.ts';
import type { ChromaEndpoint } from './transport.ts';
import { verifyLive } from './verify.ts';

/** Over HTTP. The ways by files use it for what only the server tells. */
export interface HttpWay extends ChromaWay {
  /** What the server says, or `null`: the capture by files does without it. */
  version(ctx: OperationContext): Promise<string | null>;
  generation(record: SwapRecord): Generation;
}

/** Captured logically, at a moment of its own, and restored into collections of the running server. */
export function httpWay(
  store: ChromaStore,
  endpoint: ChromaEndpoint,
  tenants: readonly string[] | undefined,
): HttpWay {
  const { name } = store;
  const target = { ...endpoint, ...store };
  return {
    probe: (ctx) => probe(name, endpoint, tenants, ctx),
    leftovers: () => Promise.resolve([]),
    async ready(ctx) {
      await detectServer(endpoint, ctx);
    },
    prepare: (ctx) =>
      prepareLogicalCapture({ ...endpoint, name, ...(tenants === undefined ? {} : { tenants }) }, ctx),
    async planRestore(from, facts, restore, ctx, source) {
      if (facts.method === 'physical') throw unknownDirectory(name);
      const decided = await planLogicalRestore(from, facts, target, restore, ctx, source);
      return singleUse(decided, (...stage) => stageLogicalRestore(target, ...stage));
    },
    async removeStaged(restoreId, ctx) {
      const { client } = await detectServer(endpoint, ctx);
      await removeStagedCollections(client, tenants ?? defaultTenants, restoreId, ctx);
    },
    generation: (record) => logicalGeneration(record, endpoint),
    verify: (facts, ctx) => verifyLive({ ...endpoint, name }, facts, ctx),
    async version(ctx) {
      try {
        return (await detectServer(endpoint, ctx)).version;
      } catch (error) {
        throwIfAborted(ctx.signal);
        ctx.log.debug(`${name}: the server was not asked for its version: ${messageOf(error)}`);
        return null;
      }
    },
  };
}

/** A Chroma whose server is not known: what needs it says so. */
export function noServer({ name }: ChromaStore): HttpWay {
  const refuse = (): Promise<never> => Promise.reject(unreachable(name));
  return {
    ...{ probe: refuse, ready: refuse, prepare: refuse, verify: refuse },
    leftovers: () => Promise.resolve([]),
    planRestore: (_, { method }) =>
      method === 'physical' ? Promise.reject(unknownDirectory(name)) : refuse(),
    removeStaged: () => Promise.resolve(),
    generation() {
      throw unreachable(name);
    },
    version: () => Promise.resolve(null),
  };
}

async function probe(
  name: string,
  endpoint: ChromaEndpoint,
  tenants: readonly string[] | undefined,
  ctx: OperationContext,
): Promise<ComponentProbe> {
  const { client, version } = await detectServer(endpoint, ctx);
  let collections = 0;
  for (const tenant of tenants ?? defaultTenants) {
    for (const database of await client.listDatabases(tenant, ctx)) {
      collections += (await client.listCollections({ tenant, database }, ctx)).length;
    }
  }
  const warnings = [
    `${name}: without path in tars.yaml the capture goes over HTTP and has a moment of its own`,
    ...(tenants === undefined
      ? [
          `${name}: Chroma does not list its tenants over HTTP, so only ${defaultTenants.join(', ')} is captured; name others under tenants in tars.yaml`,
        ]
      : []),
  ];
  return { serverVersion: version, sizeBytes: 0, summary: counted(collections, 'collection'), warnings };
}
