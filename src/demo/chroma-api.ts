import { ServiceUnavailableError } from '../model/errors.ts';

const base = (url: string): string =>
  `${url}/api/v2/tenants/default_tenant/databases/default_database/collections`;

async function call<T>(url: string, body?: unknown): Promise<T> {
  const response = await fetch(
    url,
    body === undefined
      ? {}
      : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
  );
  if (!response.ok)
    throw new ServiceUnavailableError(`Chroma answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

export interface DemoRecord {
  readonly id: string;
  readonly document: string;
  readonly embedding: readonly number[];
  readonly metadata: Readonly<Record<string, string | number>>;
}

/** Creates the collection, or finds it. Returns its id. */
export async function ensureCollection(url: string, name: string): Promise<string> {
  const { id } = await call<{ id: string }>(base(url), { name, get_or_create: true });
  return id;
}

export async function addRecords(
  url: string,
  collectionId: string,
  records: readonly DemoRecord[],
): Promise<void> {
  await call(`${base(url)}/${collectionId}/add`, {
    ids: records.map(({ id }) => id),
    documents: records.map(({ document }) => document),
    embeddings: records.map(({ embedding }) => embedding),
    metadatas: records.map(({ metadata }) => metadata),
  });
}

export async function listIds(url: string, collectionId: string): Promise<readonly string[]> {
  const { ids } = await call<{ ids: string[] }>(`${base(url)}/${collectionId}/get`, { include: [] });
  return ids;
}

/** Names of all collections, sorted. */
export async function listCollections(url: string): Promise<readonly string[]> {
  const collections = await call<{ name: string }[]>(base(url));
  return collections.map(({ name }) => name).sort();
}

/** Every record of a collection, in order of ids; metadata in order of its keys. */
export async function listRecords(url: string, collectionId: string): Promise<readonly DemoRecord[]> {
  const page = 1000;
  const records: DemoRecord[] = [];
  const ids = await listIds(url, collectionId);
  for (let start = 0; start < ids.length; start += page) {
    const answer = await call<{
      ids: string[];
      documents: string[];
      metadatas: DemoRecord['metadata'][];
      embeddings: number[][];
    }>(`${base(url)}/${collectionId}/get`, {
      ids: ids.slice(start, start + page),
      include: ['documents', 'metadatas', 'embeddings'],
    });
    answer.ids.forEach((id, i) => {
      records.push({
        id,
        document: answer.documents[i] ?? '',
        metadata: sorted(answer.metadatas[i] ?? {}),
        // The server prints the shortest decimals that mean the same float32.
        embedding: (answer.embeddings[i] ?? []).map(Math.fround),
      });
    });
  }
  return records.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The server returns metadata in no fixed order. */
function sorted(metadata: DemoRecord['metadata']): DemoRecord['metadata'] {
  return Object.fromEntries(Object.entries(metadata).sort());
}

/** Ids and distances of the nearest records, nearest first. */
export async function nearest(
  url: string,
  collectionId: string,
  embedding: readonly number[],
  count: number,
): Promise<readonly { id: string; distance: number; document: string }[]> {
  const answer = await call<{ ids: string[][]; distances: number[][]; documents: string[][] }>(
    `${base(url)}/${collectionId}/query`,
    { query_embeddings: [embedding], n_results: count, include: ['documents', 'distances'] },
  );
  return (answer.ids[0] ?? []).map((id, i) => ({
    id,
    distance: answer.distances[0]?.[i] ?? Number.NaN,
    document: answer.documents[0]?.[i] ?? '',
  }));
}
