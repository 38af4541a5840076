import type { Command } from 'commander';
import { z } from 'zod';
import { runLogOf, stackClaimsOf } from '../../composition/index.ts';
import { toTarsError, type TarsError } from '../../model/errors.ts';
import { describeFinding } from '../../model/finding.ts';
import { someOf } from '../../model/plural.ts';
import type { OperationContext } from '../../ports/context.ts';
import {
  recordedVerbs,
  type ClaimName,
  type OpenRun,
  type RecordedVerb,
  type RetentionOutcome,
  type RunEnd,
} from '../../ports/run-log.ts';
import type { Settings } from '../../settings/load.ts';
import { exitCodes } from './exit-codes.ts';
import type { Audience } from '../render/audience.ts';

/** How many places without a component a record names. */
const namedMax = 5;

/** What a run of a verb is recorded as, and what it excludes. */
interface RunOptions {
  readonly record?: RecordedVerb | undefined;
  readonly claim?: ClaimName | undefined;
}

/** What of a backup's result is recorded; other verbs have other results. */
const resultSchema = z.object({
  snapshot: z.string().optional(),
  processedBytes: z.number().optional(),
  addedBytes: z.number().optional(),
  manifest: z
    .object({
      components: z.array(
        z.object({
          name: z.string(),
          error: z.object({ code: z.string(), message: z.string() }).optional(),
        }),
      ),
      notCaptured: z.array(z.object({ subject: z.string(), status: z.string().optional() })).default([]),
    })
    .optional(),
});
type Result = z.infer<typeof resultSchema>;

/**
 * The record of one run of a verb, and its claim to the stack. Verbs that only read, and dry runs, have neither. Where
 * the state directory cannot be written there is neither too, said in a warning: a backup matters more than its record.
 */
export class RunRecorder implements Disposable {
  readonly #verb: string;
  readonly #options: readonly string[];
  readonly #runOptions: RunOptions;
  #run: OpenRun | undefined;
  #claim: Disposable | undefined;
  #result: Result = {};
  #error: RunEnd['error'];
  #retention: RetentionOutcome | undefined;

  constructor(command: Command) {
    this.#verb = pathOf(command);
    const given = command.registeredArguments.filter((_argument, index) => index < command.args.length);
    this.#options = [
      ...Object.keys(command.opts()).filter((name) => command.getOptionValueSource(name) === 'cli'),
      ...given.map((argument) => argument.name()),
    ];
    this.#runOptions = customOf(this.#verb, this.#options);
  }

  /** @throws RepositoryLockedError while another process's run excludes this one */
  async open(settings: Settings, ctx: OperationContext): Promise<void> {
    const { record, claim } = this.#runOptions;
    if (record !== undefined) {
      try {
        const run = { verb: record, options: this.#options };
        this.#run = runLogOf(settings).begin(run, ctx.clock.now());
      } catch (error) {
        warn(error, ctx);
      }
    }
    if (claim !== undefined) {
      this.#claim = await stackClaimsOf(settings)
        .claim(claim, this.#verb, ctx.clock.now())
        .catch((error: unknown) => {
          if (toTarsError(error, '').code === 'repository-locked') throw error;
          warn(error, ctx);
          return undefined;
        });
    }
  }

  /** Notes what is worth recording of what `audience` hears. */
  listening(audience: Audience): Audience {
    return {
      ...audience,
      event: (event) => {
        if (event.type === 'finding' && event.finding.severity === 'error') {
          this.#error ??= { code: 'corruption', message: describeFinding(event.finding) };
        }
        audience.event(event);
      },
      result: (value, human) => {
        this.#result = resultSchema.safeParse(value).data ?? {};
        audience.result(value, human);
      },
      [Symbol.dispose]: () => audience[Symbol.dispose](),
    };
  }

  /** What became of retention is recorded with the run. */
  noteRetention(outcome: RetentionOutcome): void {
    this.#retention = outcome;
  }

  /** Records how the run ended. */
  close(exitCode: number, failure: TarsError | undefined, ctx: OperationContext): void {
    const { snapshot, processedBytes: capturedBytes, addedBytes, manifest } = this.#result;
    const failed = manifest?.components.find(({ error }) => error !== undefined);
    const ofComponent =
      failed?.error === undefined
        ? undefined
        : { code: failed.error.code, message: `${failed.name}: ${failed.error.message}` };
    const missing = (manifest?.notCaptured ?? []).filter(({ status }) => status === 'missing');
    const ofPlaces =
      missing.length === 0 || exitCode !== exitCodes.partial
        ? undefined
        : {
            code: 'not-captured',
            message: `it lacks ${someOf(
              missing.slice(0, namedMax).map(({ subject }) => subject),
              missing.length,
            )}`,
          };
    const error =
      failure === undefined
        ? (this.#error ?? ofComponent ?? ofPlaces)
        : { code: failure.code, message: failure.message };
    const retention = this.#retention;
    const outcome = outcomeOf(exitCode);
    const end = { exitCode, outcome, snapshot, capturedBytes, addedBytes, error, retention };
    try {
      this.#run?.finish(end, ctx.clock.now());
    } catch (cause) {
      warn(cause, ctx);
    }
  }

  [Symbol.dispose](): void {
    this.#claim?.[Symbol.dispose]();
  }
}

function warn(error: unknown, ctx: OperationContext): void {
  ctx.log.warn(toTarsError(error, 'This run cannot be recorded').message);
}

/** `schedule run` for the command of that name below `schedule`. */
function pathOf(command: Command): string {
  const names: string[] = [];
  for (let each = command; each.parent !== null; each = each.parent) names.unshift(each.name());
  return names.join(' ');
}

/** docs/adr/0005-schedule.md says which runs exclude one another, and why. */
function customOf(verb: string, options: readonly string[]): RunOptions {
  if (options.includes('dryRun')) return {};
  if (verb === 'check') {
    if (options.includes('backupFile')) return {};
    return { record: 'check', claim: options.includes('readData') ? 'check' : undefined };
  }
  const changesStack = verb === 'restore';
  // Into another project it touches nothing of this stack.
  if (changesStack) return options.includes('project') ? {} : { claim: 'work' };
  const record = recordedVerbs.find((name) => name === verb);
  return record === undefined ? {} : { record, claim: 'work' };
}

function outcomeOf(exitCode: number): RunEnd['outcome'] {
  switch (exitCode) {
    case exitCodes.success:
      return 'ok';
    case exitCodes.partial:
      return 'partial';
    case exitCodes.locked:
      return 'locked';
    case exitCodes.interrupted:
      return 'interrupted';
    default:
      return 'failed';
  }
}
