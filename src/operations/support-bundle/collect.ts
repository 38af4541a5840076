import { throwIfAborted } from '../../model/abort.ts';
import { toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Omission, RawFile, SupportSource, Yield } from './source.ts';

/** What all sources gave together. */
export interface Collected {
  readonly files: readonly RawFile[];
  readonly lessons: readonly RawFile[];
  readonly secrets: readonly string[];
  readonly omitted: readonly Omission[];
}

/** Sources that name further ones do so once or twice. */
const depthMax = 4;

/**
 * Asks all sources side by side, none for longer than `limitMs` or its own limit. One that throws or hangs is named
 * as left out, and costs nothing of the others.
 * @throws InterruptedError when the signal aborts
 */
export async function collectAll(
  sources: readonly SupportSource[],
  limitMs: number,
  ctx: OperationContext,
  depth = 0,
): Promise<Collected> {
  const parts = await Promise.all(sources.map((source) => collectOne(source, limitMs, ctx, depth)));
  throwIfAborted(ctx.signal);
  return joined(parts);
}

const joined = (parts: readonly Yield[]): Collected => ({
  files: parts.flatMap(({ files = [] }) => files),
  lessons: parts.flatMap(({ lessons = [] }) => lessons),
  secrets: parts.flatMap(({ secrets = [] }) => secrets),
  omitted: parts.flatMap(({ omitted = [] }) => omitted),
});

async function collectOne(
  source: SupportSource,
  limitMs: number,
  ctx: OperationContext,
  depth: number,
): Promise<Collected> {
  const found = await within(source, limitMs, ctx);
  const more = depth < depthMax ? await collectAll(found.further ?? [], limitMs, ctx, depth + 1) : {};
  return joined([found, more]);
}

async function within(source: SupportSource, limitMs: number, ctx: OperationContext): Promise<Yield> {
  const ms = source.limitMs ?? limitMs;
  const done = new AbortController();
  const signal = AbortSignal.any([ctx.signal, done.signal]);
  const late = ctx.clock.sleep(ms, signal).then(
    () => leftOut(source, `It did not answer within ${ms / 1000} s`),
    // The source was quicker, or everything is over.
    () => leftOut(source, 'It was interrupted'),
  );
  const found = Promise.resolve()
    .then(() => source.collect({ ...ctx, signal }))
    .catch((cause: unknown) => {
      const { message, hint } = toTarsError(cause, 'It cannot be read');
      return leftOut(source, hint === undefined ? message : `${message}. ${hint}`);
    });
  try {
    return await Promise.race([found, late]);
  } finally {
    // What still hangs lets go.
    done.abort();
  }
}

const leftOut = ({ name }: SupportSource, why: string): Yield => ({ omitted: [{ what: name, why }] });
