import { rm } from 'node:fs/promises';
import pg from 'pg';
import { ensureCollection, listIds } from '../src/demo/chroma-api.ts';
import { loadPassages } from '../src/demo/corpus.ts';
import { connectRedis } from '../src/demo/load.ts';
import { demoDatabase, type DemoStack } from '../src/demo/stack.ts';
import {
  addModel,
  BulkText,
  bulkCollection,
  changeHundredth,
  loadBulk,
  type BulkContent,
} from '../test/fixtures/bulk-stack.ts';

/** What a self-hosted stack's bytes are, about: models first, then rows. */
const shares = { models: 0.5, postgres: 0.3, redis: 0.1, chroma: 0.1 };
/** Chroma indexes a few hundred records a second; what is not in by then stays out. */
const chromaMaxMs = 120_000;
const seed = 20261124;

/** The data that all contestants back up. */
export class Workload {
  readonly content: BulkContent;
  readonly #stack: DemoStack;
  readonly #text: BulkText;
  readonly #changedModelBytes: number;
  #changes = 0;

  static async load(stack: DemoStack, sizeBytes: number): Promise<Workload> {
    const text = new BulkText(await loadPassages(), seed);
    const content = await loadBulk(stack, text, {
      postgresBytes: sizeBytes * shares.postgres,
      redisBytes: sizeBytes * shares.redis,
      chromaBytes: sizeBytes * shares.chroma,
      chromaMs: chromaMaxMs,
    });
    const modelBytes = Math.round(sizeBytes * shares.models);
    await addModel(stack.modelStore, 'bulk', modelBytes, seed);
    return new Workload(stack, text, content, Math.round(modelBytes / 100));
  }

  private constructor(stack: DemoStack, text: BulkText, content: BulkContent, changedModelBytes: number) {
    this.#stack = stack;
    this.#text = text;
    this.content = content;
    this.#changedModelBytes = changedModelBytes;
  }

  /** Changes a hundredth of everything. */
  async change(): Promise<void> {
    const round = ++this.#changes;
    const change = { round, modelBytes: this.#changedModelBytes };
    await changeHundredth(this.#stack, this.#text, this.content, change);
  }

  /** Loses what a restore would otherwise find in place and leave alone. */
  async loseModels(): Promise<void> {
    await rm(this.#stack.modelStore, { recursive: true });
  }

  /** A restore that is faster because it restored nothing must not count. @throws Error */
  async requireRestored(who: string): Promise<void> {
    const { rows, keys, records } = this.content;
    const found = await countContent(this.#stack);
    if (found.rows === rows && found.keys === keys && found.records === records) return;
    throw new Error(
      `${who} restored ${JSON.stringify(found)} instead of ${JSON.stringify({ rows, keys, records })}`,
    );
  }
}

async function countContent(stack: DemoStack): Promise<BulkContent> {
  const { host, port, user, password } = stack.postgres;
  const client = new pg.Client({ host, port, user, password, database: demoDatabase });
  const redis = connectRedis(stack);
  try {
    await client.connect();
    const { rows } = await client.query<{ rows: number }>('SELECT count(*)::int AS rows FROM passages');
    const collection = await ensureCollection(stack.chroma.url, bulkCollection);
    return {
      rows: rows[0]?.rows ?? 0,
      keys: await redis.dbsize(),
      records: (await listIds(stack.chroma.url, collection)).length,
    };
  } finally {
    await client.end();
    await redis.quit();
  }
}
