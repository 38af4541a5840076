import { z } from 'zod';
import { CorruptionError } from '../../model/errors.ts';
import type { SwapRecord } from '../../model/restore-plan.ts';

/**
 * What a kind noted in the record of its swap.
 * @throws CorruptionError when it is another kind's record, or damaged
 */
export function swapDetails<T>(record: SwapRecord, kind: string, schema: z.ZodType<T>): T {
  const { component, details } = record;
  if (record.kind !== kind) {
    throw new CorruptionError(
      `The journal holds a restore of ${component} as ${record.kind}, and tars.yaml has it as ${kind}`,
      { hint: `Set the kind of ${component} in tars.yaml to ${record.kind} again, then run this again.` },
    );
  }
  const parsed = schema.safeParse(details);
  if (parsed.success) return parsed.data;
  throw new CorruptionError(
    `The journal of the restore of ${component} cannot be read: ${z.prettifyError(parsed.error)}`,
    {
      hint: 'Put the previous data back by hand: way-back-ID.txt in state_dir lists the commands.',
      cause: parsed.error,
    },
  );
}

/** How a swap exchanges its data, where a store has several ways; undefined when the record names none. */
export const swapMethod = ({ details: { method } }: SwapRecord): string | undefined =>
  typeof method === 'string' ? method : undefined;
