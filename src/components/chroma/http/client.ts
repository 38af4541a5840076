import type { OperationContext } from '../../../ports/context.ts';
import type { ChromaRecord, Metadata } from '../record.ts';
import { ChromaAnswers, type CollectionInfo, type DatabasePlace, type PreFlight } from './answers.ts';
import { listAll } from './list-pages.ts';
import { metadataText, type FloatSpelling } from './metadata-json.ts';
import { ChromaResponseError, ChromaTransport, type ChromaEndpoint } from './transport.ts';

type Context = Pick<OperationContext, 'signal' | 'clock'>;

/** What a new collection is made with. A server takes `configuration` or `schema`, never both. */
export interface NewCollection extends DatabasePlace {
  readonly name: string;
  readonly metadata: Metadata;
  readonly settings: { readonly configuration: string } | { readonly schema: string } | undefined;
}

const listingTimeoutMs = 290_000;
const addTimeoutMs = 290_000;
/** V8 holds no longer string. */
const maxListingBytes = 500 << 20;

/**
 * The parts of Chroma's v2 API that capture, restore and verification need.
 * Source: `rust/frontend/src/server.rs` of chroma-core/chroma, and answers of a 1.0.0 server.
 */
export class ChromaClient {
  readonly #transport: ChromaTransport;
  readonly #answers: ChromaAnswers;

  /** @throws ConfigurationError when the URL or a header is malformed */
  constructor(endpoint: ChromaEndpoint) {
    this.#transport = new ChromaTransport(endpoint);
    this.#answers = new ChromaAnswers(this.#transport.location);
  }

  /** The server's address without credentials. */
  get location(): string {
    return this.#transport.location;
  }

  /** One attempt. @throws ServiceUnavailableError | ChromaResponseError */
  async heartbeat(version: 'v1' | 'v2', ctx: Context): Promise<void> {
    await this.#transport.request('GET', `/api/${version}/heartbeat`, probe, ctx);
  }

  /** What the server says of itself; `1.0.0` on every 1.x. */
  async version(api: 'v1' | 'v2', ctx: Context): Promise<string> {
    return this.#answers.version(await this.#transport.request('GET', `/api/${api}/version`, probe, ctx));
  }

  async preFlight(ctx: Context): Promise<PreFlight> {
    const text = await this.#transport.request('GET', '/api/v2/pre-flight-checks', { idempotent: true }, ctx);
    return this.#answers.preFlight(text);
  }

  async tenantExists(tenant: string, ctx: Context): Promise<boolean> {
    return (
      (await this.#unlessMissing(this.#get(`/tenants/${encodeURIComponent(tenant)}`, ctx))) !== undefined
    );
  }

  async createTenant(tenant: string, ctx: Context): Promise<void> {
    await this.#post('/tenants', JSON.stringify({ name: tenant }), { idempotent: false }, ctx);
  }

  /** All databases of a tenant; none when there is no such tenant. */
  async listDatabases(tenant: string, ctx: Context): Promise<readonly string[]> {
    const page = async (query: string): Promise<readonly string[]> => {
      const path = `/tenants/${encodeURIComponent(tenant)}/databases?${query}`;
      const text = await this.#unlessMissing(this.#get(path, ctx));
      return text === undefined ? [] : this.#answers.names(text);
    };
    return listAll(page, (name) => name);
  }

  async createDatabase({ tenant, database }: DatabasePlace, ctx: Context): Promise<void> {
    const path = `/tenants/${encodeURIComponent(tenant)}/databases`;
    await this.#post(path, JSON.stringify({ name: database }), { idempotent: false }, ctx);
  }

  /** All collections of a database; none when there is no such database. */
  async listCollections(place: DatabasePlace, ctx: Context): Promise<readonly CollectionInfo[]> {
    const page = async (query: string): Promise<readonly CollectionInfo[]> => {
      const text = await this.#unlessMissing(this.#get(`${collectionsPath(place)}?${query}`, ctx));
      if (text === undefined) return [];
      return this.#answers.collections(text, place);
    };
    return listAll(page, ({ id }) => id);
  }

  async findCollection(
    place: DatabasePlace,
    name: string,
    ctx: Context,
  ): Promise<CollectionInfo | undefined> {
    const path = `${collectionsPath(place)}/${encodeURIComponent(name)}`;
    const text = await this.#unlessMissing(this.#get(path, ctx));
    return text === undefined ? undefined : this.#answers.collection(text, place);
  }

  /** @throws ChromaResponseError 409 when the name is taken */
  async createCollection(wanted: NewCollection, spell: FloatSpelling, ctx: Context): Promise<CollectionInfo> {
    const members = [
      `"name":${JSON.stringify(wanted.name)}`,
      `"metadata":${metadataText(wanted.metadata, spell)}`,
      ...Object.entries(wanted.settings ?? {}).map(([key, text]) => `"${key}":${text}`),
    ];
    const body = `{${members.join(',')}}`;
    return this.#answers.collection(
      await this.#post(collectionsPath(wanted), body, { idempotent: false }, ctx),
      wanted,
    );
  }

  /** Gives the collection with that id another name. Renaming to the name it has is no error. */
  async renameCollection(place: DatabasePlace, id: string, newName: string, ctx: Context): Promise<void> {
    const body = JSON.stringify({ new_name: newName });
    const path = `/api/v2${collectionsPath(place)}/${encodeURIComponent(id)}`;
    await this.#transport.request('PUT', path, { idempotent: true, body }, ctx);
  }

  /** Replaces the metadata of the collection with that id; not possible with none. */
  async setCollectionMetadata(
    place: DatabasePlace,
    id: string,
    metadata: Metadata,
    spell: FloatSpelling,
    ctx: Context,
  ): Promise<void> {
    const body = `{"new_metadata":${metadataText(metadata, spell)}}`;
    const path = `/api/v2${collectionsPath(place)}/${encodeURIComponent(id)}`;
    await this.#transport.request('PUT', path, { idempotent: true, body }, ctx);
  }

  /** The API deletes by name only: look up its id first. Deleting what is not there is no error. */
  async deleteCollection(place: DatabasePlace, name: string, ctx: Context): Promise<void> {
    const path = `/api/v2${collectionsPath(place)}/${encodeURIComponent(name)}`;
    await this.#unlessMissing(
      this.#transport.request('DELETE', path, { idempotent: true, timeoutMs: listingTimeoutMs }, ctx),
    );
  }

  async count(place: DatabasePlace, id: string, ctx: Context): Promise<number> {
    return this.#answers.count(await this.#get(`${collectionsPath(place)}/${id}/count`, ctx));
  }

  /**
   * Every id of a collection, in one request: one SQL statement on the server, so that concurrent changes cannot
   * shift pages. `undefined` when the collection is gone.
   */
  async listIds(place: DatabasePlace, id: string, ctx: Context): Promise<readonly string[] | undefined> {
    const options = { idempotent: true, timeoutMs: listingTimeoutMs, maxResponseBytes: maxListingBytes };
    const path = `${collectionsPath(place)}/${id}/get`;
    const text = await this.#unlessMissing(this.#post(path, '{"include":[]}', options, ctx));
    return text === undefined ? undefined : this.#answers.ids(text);
  }

  /**
   * The records with those ids that are still there, in the server's order. `undefined` when the collection is gone.
   * @throws ResponseTooLargeError
   */
  async getRecords(
    place: DatabasePlace,
    id: string,
    request: {
      readonly ids: readonly string[];
      readonly embeddings: boolean;
      readonly maxResponseBytes: number;
      readonly attempts?: number;
    },
    ctx: Context,
  ): Promise<{ readonly records: readonly ChromaRecord[]; readonly responseBytes: number } | undefined> {
    const include = ['documents', 'metadatas', 'uris', ...(request.embeddings ? ['embeddings'] : [])];
    const { maxResponseBytes, attempts = 5 } = request;
    const text = await this.#unlessMissing(
      this.#post(
        `${collectionsPath(place)}/${id}/get`,
        JSON.stringify({ ids: request.ids, include }),
        { idempotent: true, maxResponseBytes, attempts },
        ctx,
      ),
    );
    return text === undefined
      ? undefined
      : { records: this.#answers.records(text), responseBytes: text.length };
  }

  /** Adds records; ids that are there already are left as they are, so that it may be repeated. */
  async add(place: DatabasePlace, id: string, body: string, ctx: Context): Promise<void> {
    const options = { idempotent: true, timeoutMs: addTimeoutMs };
    await this.#post(`${collectionsPath(place)}/${id}/add`, body, options, ctx);
  }

  /** The nearest records to `vector`, nearest first. */
  async query(
    place: DatabasePlace,
    id: string,
    vector: Float32Array,
    resultCount: number,
    ctx: Context,
  ): Promise<readonly { readonly id: string; readonly distance: number | null }[]> {
    const body = JSON.stringify({
      query_embeddings: [[...vector]],
      n_results: resultCount,
      include: ['distances'],
    });
    const text = await this.#post(`${collectionsPath(place)}/${id}/query`, body, { idempotent: true }, ctx);
    return this.#answers.nearest(text);
  }

  #get(path: string, ctx: Context): Promise<string> {
    return this.#transport.request('GET', `/api/v2${path}`, { idempotent: true }, ctx);
  }

  #post(
    path: string,
    body: string,
    options: { idempotent: boolean; timeoutMs?: number; maxResponseBytes?: number; attempts?: number },
    ctx: Context,
  ): Promise<string> {
    return this.#transport.request('POST', `/api/v2${path}`, { ...options, body }, ctx);
  }

  async #unlessMissing(answer: Promise<string>): Promise<string | undefined> {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof ChromaResponseError && error.status === 404) return undefined;
      throw error;
    }
  }
}

const probe = { idempotent: false, timeoutMs: 10_000, maxResponseBytes: 1 << 20 } as const;

const collectionsPath = ({ tenant, database }: DatabasePlace): string =>
  `/tenants/${encodeURIComponent(tenant)}/databases/${encodeURIComponent(database)}/collections`;
