import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { ensureCollection, listIds, nearest, recordLines } from './chroma-api.ts';
import { embed } from './embedding.ts';
import { connectRedis, questions } from './load.ts';
import { demoDatabase, type DemoStack } from './stack.ts';

/** What the demo compares before the disaster and after the recovery, taken through the stores' own protocols. */
export interface Observation {
  /** Digest over every row of the analytics table, in key order. */
  readonly analyticsRows: number;
  readonly analyticsDigest: string;
  readonly cacheKeys: number;
  /** Digest over every key but the visits: type, value, and whether it expires. */
  readonly cacheDigest: string;
  readonly passages: number;
  /** Digest over every record: id, document, metadata, embedding. */
  readonly passagesDigest: string;
  readonly modelDigest: string;
  readonly configDigest: string;
  readonly answers: readonly (readonly { id: string; distance: number }[])[];
}

/** The last visit each store knows, and whether visits 1 to that one are all there. */
export interface Visits {
  readonly postgres: number;
  readonly redis: number;
  readonly chroma: number;
  readonly gapless: boolean;
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
  const rows = await query<{ line: string }>(
    stack,
    'SELECT t::text AS line FROM analytics.passages t ORDER BY id',
  );
  const cache = await observeCache(stack);
  const collection = await ensureCollection(stack.chroma.url, 'passages');
  const records = await recordLines(stack.chroma.url, collection);
  const answers = await Promise.all(
    questions.map(async (question) =>
      (await nearest(stack.chroma.url, collection, embed(question), 5)).map(({ id, distance }) => ({
        id,
        distance,
      })),
    ),
  );
  return {
    analyticsRows: rows.length,
    analyticsDigest: sha256(rows.map(({ line }) => line).join('\n')),
    ...cache,
    passages: records.length,
    passagesDigest: sha256(records.join('\n')),
    modelDigest: await digestTree(stack.modelStore),
    configDigest: sha256(await readFile(stack.configFile)),
    answers,
  };
}

async function observeCache(stack: DemoStack): Promise<{ cacheKeys: number; cacheDigest: string }> {
  const redis = connectRedis(stack);
  try {
    const keys = (await redis.keys('*')).filter((key) => !key.startsWith('visit:')).sort();
    const lines = await Promise.all(
      keys.map(async (key) => {
        const type = await redis.type(key);
        const value =
          type === 'hash'
            ? Object.entries(await redis.hgetall(key)).sort()
            : type === 'zset'
              ? await redis.zrange(key, '0', '-1', 'WITHSCORES')
              : await redis.get(key);
        return JSON.stringify([key, type, value, (await redis.ttl(key)) > 0]);
      }),
    );
    return { cacheKeys: keys.length, cacheDigest: sha256(lines.join('\n')) };
  } finally {
    redis.disconnect();
  }
}

async function digestTree(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const lines = await Promise.all(
    files.sort().map(async (file) => `${file} ${sha256(await readFile(file))}`),
  );
  return sha256(lines.join('\n'));
}

export async function observeVisits(stack: DemoStack): Promise<Visits> {
  const rows = await query<{ n: number }>(stack, 'SELECT n FROM visits ORDER BY n');
  const redis = connectRedis(stack);
  const cached = (await redis.keys('visit:*')).map((key) => Number(key.slice('visit:'.length)));
  redis.disconnect();
  const collection = await ensureCollection(stack.chroma.url, 'visits');
  const records = (await listIds(stack.chroma.url, collection)).map((id) =>
    Number(id.slice('visit-'.length)),
  );
  const lists = [rows.map(({ n }) => n), cached, records];
  const last = lists.map((list) => list.reduce((most, n) => Math.max(most, n), 0));
  const gapless = lists.every((list, i) => new Set(list).size === last[i]);
  return { postgres: last[0] ?? 0, redis: last[1] ?? 0, chroma: last[2] ?? 0, gapless };
}

/** The last visit the application was told to be stored before `time`. */
export async function lastAcknowledged(stack: DemoStack, time: string): Promise<number> {
  const lines = (await readFile(stack.ledgerFile, 'utf8')).trim().split('\n');
  const before = lines.map((line) => line.split(' ')).filter(([, at]) => at !== undefined && at < time);
  return Number(before.at(-1)?.[0] ?? 0);
}
