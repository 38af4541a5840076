import type { DemoRecord } from './chroma-api.ts';
import { embed } from './embedding.ts';

/** What the demo's application writes as visit n, to PostgreSQL, Redis and Chroma; a restored visit must be this. */
export function visit(n: number): { readonly note: string; readonly record: DemoRecord } {
  const note = `Visit ${n} asked about the white whale`;
  return { note, record: { id: `visit-${n}`, document: note, metadata: { n }, embedding: embed(note) } };
}
