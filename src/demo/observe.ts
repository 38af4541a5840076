import type { Redis } from 'ioredis';
import { createHash } from 'node:crypto';
import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { ensureCollection, listCollections, listRecords, nearest } from './chroma-api.ts';
import { embed } from './embedding.ts';
import { connectRedis, questions } from './load.ts';
import { demoDatabase, type DemoStack } from './stack.ts';
import { visit } from './visit.ts';

/** What the demo compares before the disaster and after the recovery, taken through the stores' own protocols. */
export interface Observation {
  readonly analyticsRows: number;
  /** Over every row of every table but the visits. */
  readonly analyticsDigest: string;
  readonly cacheKeys: number;
  /** Over every key but the visits: name, type, value, and when it expires. */
  readonly cacheDigest: string;
  readonly passages: number;
  /** Over the names of all collections and every record but the visits: id, document, metadata, embedding. */
  readonly passagesDigest: string;
  /** Over every file: path, mode, content. */
  readonly modelDigest: string;
  /** Over mode and content. */
  readonly configDigest: string;
  readonly answers: readonly (readonly { id: string; distance: number }[])[];
}

/** The last visit each store knows, and whether visits 1 to that one are all there, each of them whole. */
export interface Visits {
  readonly postgres: number;
  readonly redis: number;
  readonly chroma: number;
  readonly gapless: boolean;
  /** Visits of any store that are not what the application wrote. */
  readonly torn: number;
}

const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');

async function query<Row extends pg.QueryResultRow>(stack: DemoStack, text: string): Promise<Row[]> {
  const { host, port, user, password } = stack.postgres;
  const client = new pg.Client({ host, port, user, password, database: demoDatabase });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

export async function observe(stack: DemoStack): Promise<Observation> {
  const { chroma, modelStore, configFile } = stack;
  const rows = await analyticsRows(stack);
  const cache = await observeCache(stack);
  const collection = await ensureCollection(chroma.url, 'passages');
  const records = await listRecords(chroma.url, collection);
  const collections = await listCollections(chroma.url);
  const answers = await Promise.all(
    questions.map(async (question) =>
      (await nearest(chroma.url, collection, embed(question), 5)).map(({ id, distance }) => ({
        id,
        distance,
      })),
    ),
  );
  return {
    analyticsRows: rows.length,
    analyticsDigest: sha256(rows.join('\n')),
    ...cache,
    passages: records.length,
    passagesDigest: sha256(JSON.stringify([collections, records])),
    modelDigest: await digestTree(modelStore),
    configDigest: sha256(await fileLine(configFile)),
    answers,
  };
}

/** Every row of every table but the visits, as text, with the table's name. */
async function analyticsRows(stack: DemoStack): Promise<readonly string[]> {
  const tables = await query<{ name: string }>(
    stack,
    `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
     WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
  );
  const lines: string[] = [];
  for (const { name } of tables.filter((table) => table.name !== 'public.visits')) {
    const rows = await query<{ line: string }>(stack, `SELECT t::text AS line FROM ${name} t`);
    lines.push(...rows.map(({ line }) => `${name} ${line}`).sort());
  }
  return lines;
}

async function observeCache(stack: DemoStack): Promise<{ cacheKeys: number; cacheDigest: string }> {
  const redis = connectRedis(stack);
  try {
    const keys = (await redis.keys('*')).filter((key) => !key.startsWith('visit:')).sort();
    const lines = await Promise.all(
      keys.map(async (key) =>
        JSON.stringify([key, ...(await valueOf(redis, key)), await expiryOf(redis, key)]),
      ),
    );
    return { cacheKeys: keys.length, cacheDigest: sha256(lines.join('\n')) };
  } finally {
    redis.disconnect();
  }
}

/** Type and value. */
async function valueOf(redis: Redis, key: string): Promise<readonly [string, unknown]> {
  const type = await redis.type(key);
  switch (type) {
    case 'hash':
      return [type, Object.entries(await redis.hgetall(key)).sort()];
    case 'zset':
      return [type, await redis.zrange(key, '0', '-1', 'WITHSCORES')];
    default:
      return [type, await redis.get(key)];
  }
}

/** In milliseconds of Unix time, -1 for never. Redis 6 says only whether. */
async function expiryOf(redis: Redis, key: string): Promise<number | boolean> {
  try {
    return await redis.pexpiretime(key);
  } catch {
    return (await redis.pttl(key)) >= 0;
  }
}

async function digestTree(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return sha256((await Promise.all(files.sort().map(fileLine))).join('\n'));
}

async function fileLine(path: string): Promise<string> {
  const { mode } = await stat(path);
  return `${path} ${mode.toString(8)} ${sha256(await readFile(path))}`;
}

export async function observeVisits(stack: DemoStack): Promise<Visits> {
  const rows = await query<{ n: number; note: string }>(stack, 'SELECT n, note FROM visits');
  const cached = await cachedVisits(stack);
  const { url } = stack.chroma;
  const records = await listRecords(url, await ensureCollection(url, 'visits'));
  const lists = [
    rows.map(({ n, note }) => ({ n, whole: note === visit(n).note })),
    cached.map(([n, note]) => ({ n, whole: note === visit(n).note })),
    records.map((record) => {
      const n = Number(record.id.slice('visit-'.length));
      return { n, whole: isDeepStrictEqual(record, visit(n).record) };
    }),
  ];
  const last = lists.map((list) => list.reduce((most, { n }) => Math.max(most, n), 0));
  const gapless = lists.every((list, i) => new Set(list.map(({ n }) => n)).size === last[i]);
  const torn = lists.flat().filter(({ whole }) => !whole).length;
  return { postgres: last[0] ?? 0, redis: last[1] ?? 0, chroma: last[2] ?? 0, gapless, torn };
}

async function cachedVisits(stack: DemoStack): Promise<readonly (readonly [number, string | null])[]> {
  const redis = connectRedis(stack);
  try {
    const keys = await redis.keys('visit:*');
    const notes = keys.length === 0 ? [] : await redis.mget(keys);
    return keys.map((key, i) => [Number(key.slice('visit:'.length)), notes[i] ?? null]);
  } finally {
    redis.disconnect();
  }
}

/** The last visit the application was told to be stored before `time`. */
export async function lastAcknowledged(stack: DemoStack, time: string): Promise<number> {
  const lines = (await readFile(stack.ledgerFile, 'utf8')).trim().split('\n');
  const before = lines.map((line) => line.split(' ')).filter(([, at]) => at !== undefined && at < time);
  return Number(before.at(-1)?.[0] ?? 0);
}
