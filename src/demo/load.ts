import { Redis } from 'ioredis';
import { rm } from 'node:fs/promises';
import pg from 'pg';
import { addRecords, ensureCollection } from './chroma-api.ts';
import type { Passage } from './corpus.ts';
import { embed } from './embedding.ts';
import { demoDatabase, type DemoStack } from './stack.ts';

/** Records a request adds to Chroma; well under its payload cap. */
const addBatch = 500;

/** The questions asked before the disaster and after the recovery. */
export const questions = [
  'Call me Ishmael, some years ago, having little money in my purse',
  'What is the whiteness of the whale and why does it appal',
  'Captain Ahab nails a gold doubloon to the mast',
  'Queequeg the harpooneer and his coffin',
  'How is spermaceti taken from the head of the sperm whale',
  'The chase, the third day: the ship is sunk by Moby Dick',
  'Father Mapple preaches a sermon on Jonah',
  'Starbuck argues with Ahab about vengeance on a dumb brute',
] as const;

/** Fills every store: passages with embeddings, analytics rows about them, cached answers with lifetimes. */
export async function loadStack(stack: DemoStack, passages: readonly Passage[]): Promise<void> {
  await Promise.all([loadChroma(stack, passages), loadPostgres(stack, passages), loadRedis(stack, passages)]);
  await rm(stack.ledgerFile, { force: true });
}

async function loadChroma(stack: DemoStack, passages: readonly Passage[]): Promise<void> {
  const collection = await ensureCollection(stack.chroma.url, 'passages');
  await ensureCollection(stack.chroma.url, 'visits');
  for (let start = 0; start < passages.length; start += addBatch) {
    const records = passages.slice(start, start + addBatch).map(({ id, text, chapter }) => ({
      id,
      document: text,
      embedding: embed(text),
      metadata: { chapter, book: 'Moby-Dick' },
    }));
    await addRecords(stack.chroma.url, collection, records);
  }
}

async function loadPostgres(stack: DemoStack, passages: readonly Passage[]): Promise<void> {
  const { postgres } = stack;
  const connection = {
    host: postgres.host,
    port: postgres.port,
    user: postgres.user,
    password: postgres.password,
  };
  const admin = new pg.Client({ ...connection, database: 'postgres' });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${demoDatabase}`);
  await admin.end();
  const client = new pg.Client({ ...connection, database: demoDatabase });
  await client.connect();
  await client.query(`
    CREATE SCHEMA analytics;
    CREATE TABLE analytics.passages (id text PRIMARY KEY, chapter int NOT NULL, words int NOT NULL, seen timestamptz);
    CREATE TABLE visits (n int PRIMARY KEY, note text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
  `);
  await client.query(
    `INSERT INTO analytics.passages
     SELECT id, chapter, words, now() - make_interval(mins => words)
     FROM unnest($1::text[], $2::int[], $3::int[]) AS t(id, chapter, words)`,
    [
      passages.map(({ id }) => id),
      passages.map(({ chapter }) => chapter),
      passages.map(({ text }) => text.split(' ').length),
    ],
  );
  await client.end();
}

async function loadRedis(stack: DemoStack, passages: readonly Passage[]): Promise<void> {
  const redis = connectRedis(stack);
  const pipeline = redis.pipeline();
  for (const { id, chapter, text } of passages) {
    pipeline.hset(`passage:${id}`, { chapter, preview: text.slice(0, 60) });
    pipeline.zadd('popular', chapter, id);
  }
  questions.forEach((question, n) => pipeline.set(`answer:${n}`, question, 'EX', 86_400));
  await pipeline.exec();
  await redis.quit();
}

/** A connection to the demo's Redis that gives up instead of trying forever. */
export function connectRedis({ redis }: DemoStack): Redis {
  return new Redis({
    host: redis.host,
    port: redis.port,
    ...(redis.password === undefined ? {} : { password: redis.password }),
    retryStrategy: () => null,
  });
}
