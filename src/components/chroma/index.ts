import type { Component } from '../../ports/component.ts';
import type { ServerProof } from '../../ports/server-proof.ts';
import type { RemoteDirectory } from '../../ports/store-place.ts';
import { swapMethod } from '../restore/swap-details.ts';
import { chromaFactsOf } from './facts.ts';
import { frozenWay } from './frozen/index.ts';
import { httpWay, noServer, type HttpWay } from './http/index.ts';
import { physicalWay } from './physical/index.ts';
import { physicalGeneration } from './physical/swap.ts';
import type { ChromaStore, ChromaWay } from './way.ts';

const kind = 'chroma';

/** A Chroma of the stack, by its files, its API or both. */
export interface ChromaOptions {
  readonly name: string;
  readonly service: string | undefined;
  /** The server, when it can be reached. */
  readonly url: string | undefined;
  /** Sent with every request, such as `Authorization`. */
  readonly headers: Readonly<Record<string, string>>;
  /** Asked before the server is. */
  readonly proof?: ServerProof;
  /** The persist directory, when it can be reached from here: captures are physical then. */
  readonly path: string | undefined;
  /** The persist directory is mounted elsewhere, such as in a container, and must not be renamed itself. */
  readonly keepDirectory?: boolean;
  /** The persist directory where no path leads to it. */
  readonly remote?: RemoteDirectory;
  /** For the copy of the persist directory; as large as that. */
  readonly scratchDir: string;
  /** Captured over HTTP, which lists no tenants. `default_tenant` by default. */
  readonly tenants?: readonly string[];
}

/**
 * ChromaDB. With a `path` it is captured physically: a safe copy of the hot persist directory, at the cut. With a
 * `url` alone it is captured logically over HTTP, at a moment of its own. Each is restored the way it was captured.
 */
export function createChromaComponent(options: ChromaOptions): Component {
  const { name, service } = options;
  const store = { name, kind, service };
  const http = serverOf(options, store);
  const way = captureWay(options, store, http);
  // Where the server can be asked, it knows better than its files.
  const live = options.url === undefined ? way : http;
  return {
    ...store,
    probe: (ctx) => way.probe(ctx),
    leftovers: () => way.leftovers(),
    ready: (ctx) => live.ready(ctx),
    prepare: (ctx) => way.prepare(ctx),
    planRestore: async (from, restore, ctx, source) =>
      way.planRestore(from, chromaFactsOf(from), restore, ctx, source),
    removeStaged: (restoreId, ctx) => way.removeStaged(restoreId, ctx),
    generation: (record) =>
      swapMethod(record) === 'logical' ? http.generation(record) : physicalGeneration(record),
    verify: async (from, ctx) => live.verify(chromaFactsOf(from), ctx),
  };
}

function serverOf({ url, headers, proof, tenants }: ChromaOptions, store: ChromaStore): HttpWay {
  if (url === undefined) return noServer(store);
  return httpWay(store, { url, headers, ...(proof === undefined ? {} : { proof }) }, tenants);
}

function captureWay(options: ChromaOptions, store: ChromaStore, http: HttpWay): ChromaWay {
  const { path, remote, scratchDir, keepDirectory = false } = options;
  if (path !== undefined) return physicalWay({ ...store, path, keepDirectory }, scratchDir, http);
  return remote === undefined ? http : frozenWay(store, remote, scratchDir, http);
}
