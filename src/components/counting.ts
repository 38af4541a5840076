import { z } from 'zod';
import type { ComponentManifest } from '../model/manifest.ts';
import type { Amount } from '../model/shrinkage.ts';

/** A number of things in facts. */
export const count = z.number().nonnegative();

export const sumOf = <T>(items: readonly T[], amount: (item: T) => number): number =>
  items.reduce((sum, item) => sum + amount(item), 0);

/** Counts what facts of this shape hold; silent about all others, such as those of a failed capture. */
export const counting =
  <T>(schema: z.ZodType<T>, amounts: (facts: T) => readonly Amount[]) =>
  ({ facts }: Pick<ComponentManifest, 'facts'>): readonly Amount[] => {
    const parsed = schema.safeParse(facts);
    return parsed.success ? amounts(parsed.data) : [];
  };
