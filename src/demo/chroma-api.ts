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

export async function countRecords(url: string, collectionId: string): Promise<number> {
  return call<number>(`${base(url)}/${collectionId}/count`);
}

export async function listIds(url: string, collectionId: string): Promise<readonly string[]> {
  const { ids } = await call<{ ids: string[] }>(`${base(url)}/${collectionId}/get`, { include: [] });
  return ids;
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
