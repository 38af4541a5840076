import { throwIfAborted } from '../../model/abort.ts';
import { messageOf, TarsError, toTarsError } from '../../model/errors.ts';
import type { MarkTerms, PreparedCapture } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ArmedGuardian, Guardian, Runtime, Service } from '../../ports/runtime.ts';

/** The services declared as writers, by what keeps each from writing during the marks. */
export interface Writers {
  /** They run, and are paused. */
  readonly pausable: readonly string[];
  /** They do not run: nothing to pause, as long as that stays so. */
  readonly idle: readonly string[];
  /** Nothing does. */
  readonly free: readonly string[];
  /** They run and seem to write, and tars.yaml does not say whether they do; with why. */
  readonly undeclared: readonly UndeclaredWriter[];
}

/** A service that seems to write to the stores. */
interface UndeclaredWriter {
  readonly name: string;
  /** Such as `depends on db`. */
  readonly why: string;
}

/** What is marked, and who must not write meanwhile. */
export interface CutOptions {
  readonly prepared: ReadonlyMap<string, PreparedCapture>;
  readonly writers: Writers;
  readonly runtime: Runtime;
  readonly guardian: Guardian;
  readonly pauseMaxMs: number;
}

/** The moment a snapshot is of, and how far all components share it. */
export interface Cut {
  readonly time: Date;
  readonly consistency: 'cut' | 'per-store';
  /** Why it is only `per-store`. */
  readonly reason?: string;
  readonly writerPauseMs?: number;
  /** Components whose mark failed or was late. */
  readonly failed: ReadonlyMap<string, TarsError>;
}

/** Part of the allowed pause that marks may take; the rest is for resuming. */
const markShare = 0.8;

/** Sorts the writers among `services`. */
export function sortWriters(services: readonly Service[]): Writers {
  const writers = services.filter(({ writer }) => writer);
  const runs = ({ canPause, state }: Service): boolean => canPause && state === 'running';
  const names = (wanted: (service: Service) => boolean): string[] =>
    writers.filter(wanted).map(({ name }) => name);
  return {
    pausable: names(runs),
    idle: names(isIdle),
    free: names((service) => !runs(service) && !isIdle(service)),
    undeclared: services.flatMap((service) =>
      service.writer || service.seemsWriter === undefined || isIdle(service) || service.missing === true
        ? []
        : [{ name: service.name, why: service.seemsWriter }],
    ),
  };
}

/** What the undeclared ones are, each with its reason. */
export const describeUndeclared = (undeclared: Writers['undeclared']): string =>
  undeclared.map(({ name, why }) => `${name} (${why})`).join(', ');

/** A writer that somebody else has paused writes as little as one that is stopped. */
const isIdle = ({ state, missing }: Service): boolean =>
  missing !== true && (state === 'stopped' || state === 'paused');

/**
 * Fixes every prepared component at one moment: pauses the writers that run, marks all at once, resumes. Never claims
 * more than was done: where a writer could write meanwhile, or a pause failed or expired, the cut is `per-store` and
 * says why. The writers run again when this returns or throws; should this process die inside, the guardian resumes
 * them.
 */
export async function takeCut(options: CutOptions, ctx: OperationContext): Promise<Cut> {
  const { prepared, writers, pauseMaxMs } = options;
  const markTimeoutMs = pauseMaxMs * markShare;
  const taken =
    writers.pausable.length === 0
      ? await markUnpaused(prepared, { timeoutMs: markTimeoutMs, isQuiet: isIdleStack(writers) }, ctx)
      : await markWhilePaused(options, markTimeoutMs, ctx);
  throwIfAborted(ctx.signal);
  const reason = taken.reason ?? (await whoCouldWrite(options, ctx));
  if (reason === undefined) return { ...taken, consistency: 'cut' };
  return { ...taken, reason, consistency: 'per-store' };
}

/** What else speaks against a cut; asked after the marks, so that a writer started before them is noticed. */
async function whoCouldWrite(
  { writers: { pausable, idle, free, undeclared }, runtime }: CutOptions,
  ctx: OperationContext,
): Promise<string | undefined> {
  const reasons = [
    ...(free.length > 0
      ? [`${free.join(', ')} may have written during the cut: tars could not find or pause it`]
      : []),
    ...(undeclared.length > 0
      ? [
          `${describeUndeclared(undeclared)} may have written during the cut: tars.yaml does not say under services whether it is a writer`,
        ]
      : []),
  ];
  if (reasons.length > 0) return reasons.join('; ');
  if (idle.length === 0) {
    return pausable.length > 0 ? undefined : 'no service is declared as a writer, so none was paused';
  }
  try {
    const services = await runtime.discover(ctx);
    const still = sortWriters(services).idle;
    const started = idle.filter((name) => !still.includes(name));
    return started.length === 0
      ? undefined
      : `${started.join(', ')} was started during the cut and was not paused`;
  } catch (error) {
    throwIfAborted(ctx.signal);
    return `it is unknown whether ${idle.join(', ')} was started during the cut: ${messageOf(error)}`;
  }
}

async function markWhilePaused(
  { prepared, writers: { pausable, free, undeclared }, runtime, guardian, pauseMaxMs }: CutOptions,
  markTimeoutMs: number,
  ctx: OperationContext,
): Promise<Omit<Cut, 'consistency'>> {
  let armed: ArmedGuardian;
  try {
    armed = await guardian.arm(await runtime.resumeActions(pausable, ctx), pauseMaxMs, ctx);
  } catch (error) {
    // Without a guardian nobody is frozen: an unpaused snapshot is worth more than none.
    const reason = `the guardian could not be started: ${messageOf(error)}`;
    return { ...(await markUnpaused(prepared, { timeoutMs: markTimeoutMs, isQuiet: false }, ctx)), reason };
  }
  let startedMs = ctx.clock.monotonicMs();
  let pauseError: unknown;
  let time = ctx.clock.now();
  let failed: ReadonlyMap<string, TarsError> = new Map();
  let guardianResumed = false;
  let writerPauseMs = 0;
  try {
    const held = await holdAll(prepared, markTimeoutMs, ctx);
    startedMs = ctx.clock.monotonicMs();
    await runtime.pause(pausable, ctx).catch((error: unknown) => {
      pauseError = error;
    });
    time = ctx.clock.now();
    const isQuiet = pauseError === undefined && free.length === 0 && undeclared.length === 0;
    failed = await markAll(prepared, held, { timeoutMs: markTimeoutMs, isQuiet }, ctx);
  } finally {
    // Where this fails the guardian stays on guard, and goes on trying when we are gone.
    await runtime.resume(pausable);
    writerPauseMs = ctx.clock.monotonicMs() - startedMs;
    guardianResumed = await armed.disarm();
  }
  if (pauseError !== undefined) {
    return { time, failed, reason: `the writers could not be paused: ${messageOf(pauseError)}` };
  }
  if (guardianResumed) {
    return {
      time,
      failed,
      writerPauseMs,
      reason: `the pause lasted longer than ${pauseMaxMs} ms (pause_max_ms in tars.yaml) and was ended early`,
    };
  }
  return { time, failed, writerPauseMs };
}

async function markUnpaused(
  prepared: ReadonlyMap<string, PreparedCapture>,
  terms: MarkTerms,
  ctx: OperationContext,
): Promise<Omit<Cut, 'consistency'>> {
  const held = await holdAll(prepared, terms.timeoutMs, ctx);
  const time = ctx.clock.now();
  return { time, failed: await markAll(prepared, held, terms, ctx) };
}

/** Writers are known, and none of them runs. */
const isIdleStack = ({ idle, free, undeclared }: Writers): boolean =>
  idle.length > 0 && free.length === 0 && undeclared.length === 0;

/** Stores that a writer may have in its own process are locked before it is paused. Returns those that failed. */
function holdAll(
  prepared: ReadonlyMap<string, PreparedCapture>,
  timeoutMs: number,
  ctx: OperationContext,
): Promise<ReadonlyMap<string, TarsError>> {
  const holding = new Map([...prepared].filter(([, capture]) => 'holdWrites' in capture));
  if (holding.size === 0) return Promise.resolve(new Map());
  return allAtOnce(holding, async (capture, signal) => capture.holdWrites?.(signal), timeoutMs, ctx);
}

/** Marks all components at once but those that failed before. Returns these, too. */
async function markAll(
  prepared: ReadonlyMap<string, PreparedCapture>,
  failedBefore: ReadonlyMap<string, TarsError>,
  terms: MarkTerms,
  ctx: OperationContext,
): Promise<ReadonlyMap<string, TarsError>> {
  const left = new Map([...prepared].filter(([name]) => !failedBefore.has(name)));
  const mark = (capture: PreparedCapture, signal: AbortSignal): Promise<void> => capture.mark(signal, terms);
  const failed = await allAtOnce(left, mark, terms.timeoutMs, ctx);
  return new Map([...failedBefore, ...failed]);
}

/** One that fails or is late does not hold up the others. */
async function allAtOnce(
  prepared: ReadonlyMap<string, PreparedCapture>,
  act: (capture: PreparedCapture, signal: AbortSignal) => Promise<void>,
  timeoutMs: number,
  ctx: OperationContext,
): Promise<ReadonlyMap<string, TarsError>> {
  const finished = new AbortController();
  const late = new AbortController();
  const timer = ctx.clock.sleep(timeoutMs, finished.signal).then(
    () => late.abort(),
    () => undefined,
  );
  const signal = AbortSignal.any([ctx.signal, late.signal]);
  const expired = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(lateError(timeoutMs)), { once: true });
  });
  expired.catch(() => undefined);
  const failed = new Map<string, TarsError>();
  await Promise.all(
    [...prepared].map(async ([name, capture]) => {
      try {
        await Promise.race([act(capture, signal), expired]);
      } catch (error) {
        failed.set(
          name,
          late.signal.aborted ? lateError(timeoutMs) : toTarsError(error, `Cannot mark ${name}`),
        );
      }
    }),
  );
  finished.abort();
  await timer;
  return failed;
}

function lateError(timeoutMs: number): TarsError {
  return new TarsError('timeout', `The store did not fix its point in time within ${timeoutMs} ms`, {
    hint: 'Find out what keeps it busy, or raise pause_max_ms in tars.yaml.',
  });
}

/**
 * The cut as it turned out once everything is captured: a component that cannot fix its state at a given moment, or
 * had to take it again after the pause, makes it `per-store`.
 */
export function settledCut(
  cut: Cut,
  prepared: ReadonlyMap<string, PreparedCapture>,
  failed: ReadonlySet<string>,
): Cut {
  if (cut.consistency === 'per-store') return cut;
  const own = [...prepared].filter(([name, capture]) => !failed.has(name) && capture.pointInTime === 'own');
  if (own.length === 0) return cut;
  const unexplained = own.filter(([, { ownReason }]) => ownReason === undefined).map(([name]) => name);
  const reasons = [
    ...(unexplained.length > 0
      ? [`the state of ${unexplained.join(', ')} is from another moment than the pause`]
      : []),
    ...own.flatMap(([name, { ownReason }]) => (ownReason === undefined ? [] : [`${name}: ${ownReason}`])),
  ];
  return { ...cut, consistency: 'per-store', reason: reasons.join('; ') };
}
