import type { Measurement } from './measure.ts';

/** What every contestant does in a round, in this order. */
export const steps = [
  'first backup',
  'unchanged',
  'after 1% change',
  'check, all data',
  'restore',
  'of that, extraction',
] as const;
export type Step = (typeof steps)[number];

export interface Restored {
  readonly whole: Measurement;
  /** Getting the files out, where that is a step of its own. */
  readonly extraction?: Measurement;
}

/** One way to back the stack up. Every round starts it anew. */
export interface Contestant {
  readonly name: string;
  /** Deletes what it stored, and sets up an empty place for the next round. */
  begin(): Promise<void>;
  backup(): Promise<Measurement>;
  /** Bytes it has stored so far. */
  storedBytes(): Promise<number>;
  /** Reads all that is stored and compares it with its checksums. */
  check(): Promise<Measurement>;
  /** Brings the newest backup back into the live stores. */
  restore(): Promise<Restored>;
}
