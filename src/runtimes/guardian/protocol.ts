import { z } from 'zod';

const engineAddressSchema = z.object({ host: z.string(), certDir: z.string().optional() });

/** One JSON line from us to the guardian; every later line is a {@link restartLine}, or at last the word `disarm`. */
export const guardianPlanSchema = z.object({
  actions: z.array(
    z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('exec'), argv: z.array(z.string()).min(1) }),
      z.object({ kind: z.literal('signal'), pid: z.int().positive(), signal: z.literal('SIGCONT') }),
      z.object({ kind: z.literal('unpause'), engine: engineAddressSchema, containerId: z.string() }),
      z.object({ kind: z.literal('start'), engine: engineAddressSchema, containerId: z.string() }),
    ]),
  ),
  pauseMaxMs: z.number().positive(),
});
export type GuardianPlan = z.infer<typeof guardianPlanSchema>;

/** One JSON line from the guardian to us each. */
export const guardianReplySchema = z.discriminatedUnion('type', [
  /** It has read the plan and its time runs. */
  z.object({ type: z.literal('ready') }),
  /** Answers `disarm`: whether it had carried out the actions by then. */
  z.object({ type: z.literal('disarmed'), fired: z.boolean() }),
]);
export type GuardianReply = z.infer<typeof guardianReplySchema>;

/** The guardian is not needed any more. */
export const disarmLine = 'disarm';

/** Its time starts again. */
export const restartLine = (pauseMaxMs: number): string => `restart ${pauseMaxMs}`;

/** The time a {@link restartLine} gives; undefined for any other line. */
export function restartOf(line: string): number | undefined {
  const pauseMaxMs = /^restart (\d+(\.\d+)?)$/.exec(line)?.[1];
  return pauseMaxMs === undefined ? undefined : Number(pauseMaxMs);
}
