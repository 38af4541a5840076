import { Redis } from 'ioredis';
import { appendFileSync, readFileSync } from 'node:fs';
import pg from 'pg';
import { addRecords, ensureCollection } from './chroma-api.ts';
import { visit } from './visit.ts';

/**
 * The demo's application: writes visit n to PostgreSQL, then Redis, then Chroma, then logs `n time` to the ledger
 * and goes on with n + 1. In any true cut the three stores therefore agree on n to within the one visit that was
 * in flight.
 */
interface WriterPlan {
  readonly postgres: { host: string; port: number; user: string; password: string; database: string };
  readonly redis: { host: string; port: number; password: string };
  readonly chromaUrl: string;
  readonly ledgerFile: string;
}

const plan = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as WriterPlan;
const client = new pg.Client(plan.postgres);
client.on('error', () => process.exit(1));
await client.connect();
const redis = new Redis(plan.redis);
redis.on('error', () => process.exit(1));
const collection = await ensureCollection(plan.chromaUrl, 'visits');
const { rows } = await client.query<{ n: number }>('SELECT coalesce(max(n), 0)::int AS n FROM visits');

for (let n = (rows[0]?.n ?? 0) + 1; ; n++) {
  const { note, record } = visit(n);
  await client.query('INSERT INTO visits (n, note) VALUES ($1, $2)', [n, note]);
  await redis.set(`visit:${n}`, note);
  await addRecords(plan.chromaUrl, collection, [record]);
  appendFileSync(plan.ledgerFile, `${n} ${new Date().toISOString()}\n`);
}
