import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { composeStack, hasPendingRestores, withEverything } from '../../composition/index.ts';
import { removeAbandonedScratch } from '../../disk/run-scratch.ts';
import { abortError, throwIfAborted } from '../../model/abort.ts';
import { InterruptedError, TarsError, toTarsError } from '../../model/errors.ts';
import { recoverInterrupted } from '../../operations/restore/recover.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RetentionOutcome } from '../../ports/run-log.ts';
import { exposedFiles } from '../../settings/exposure.ts';
import { loadSettings } from '../../composition/settings.ts';
import type { Settings } from '../../settings/load.ts';
import type { Environment } from '../../model/environment.ts';
import { exitCodeOf } from './exit-codes.ts';
import { contextFor, type Audience } from '../render/audience.ts';
import { humanAudience } from '../render/human.ts';
import { isCapable } from '../render/questions.ts';
import { jsonAudience } from '../render/json.ts';
import { RunRecorder } from './run-record.ts';

/** Options every verb takes. */
interface GlobalOptions {
  readonly config?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** What the process gives a verb. */
export interface CliContext {
  readonly env: Environment;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly signal: AbortSignal;
  /** Errors of usage are wanted as JSON too. */
  readonly json: boolean;
  setExitCode(code: number): void;
}

/** What one run of a verb works with. */
export interface Session {
  readonly env: Environment;
  readonly ctx: OperationContext;
  readonly audience: Audience;
  readonly configPath: string | undefined;
  /** Reads `tars.yaml` once, warns of secrets that others can read, and puts cut-off restores right. */
  readonly settings: () => Promise<Settings>;
  /** For the record of this run, from which `tars status` says what is held back. */
  readonly noteRetention: (outcome: RetentionOutcome) => void;
}

/** Runs a verb's work and turns its outcome into output and an exit code; the only place that catches. */
export async function runVerb(
  command: Command,
  cli: CliContext,
  work: (session: Session) => Promise<number>,
): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const { env, stdout, stderr, stdin, signal } = cli;
  const capable = isCapable(env);
  const color = stderr.isTTY && env['NO_COLOR'] === undefined && capable;
  using recorder = new RunRecorder(command);
  using audience = recorder.listening(
    options.json === true
      ? jsonAudience({ stdout, stderr })
      : humanAudience({
          ...{ stdout, stderr, stdin, color, capable, verbose: options.verbose === true },
          monotonicMs: () => performance.now(),
        }),
  );
  const ctx = contextFor(audience, signal);
  let exitCode: number;
  let failure: TarsError | undefined;
  try {
    let loaded: Promise<Settings> | undefined;
    const settings = (): Promise<Settings> => (loaded ??= loadRecorded(options.config, env, recorder, ctx));
    const noteRetention = (outcome: RetentionOutcome): void => recorder.noteRetention(outcome);
    exitCode = await work({ env, ctx, audience, configPath: options.config, settings, noteRetention });
  } catch (error) {
    failure = signal.aborted ? interruptionOf(error, signal) : toTarsError(error, 'Unexpected failure');
    audience.failure(failure);
    exitCode = exitCodeOf(failure);
  }
  cli.setExitCode(exitCode);
  recorder.close(exitCode, failure, ctx);
}

/** Only once the settings are known is there a place for the record, and a stack to claim. */
async function loadRecorded(
  configPath: string | undefined,
  env: Environment,
  recorder: RunRecorder,
  ctx: OperationContext,
): Promise<Settings> {
  const settings = await loadSettings(configPath, env);
  await recorder.open(settings, ctx);
  for (const file of await exposedFiles(settings, env)) {
    ctx.log.warn(`Every user of this machine can read ${file}, which holds a secret: chmod 600 ${file}`);
  }
  await removeLeftovers([...new Set([settings.scratch_dir, tmpdir()])], ctx);
  await recoverUnfinished(settings, env, ctx);
  return settings;
}

/** Runs that were killed could not remove what they had put into scratch, which is not encrypted. */
async function removeLeftovers(places: readonly string[], { log }: OperationContext): Promise<void> {
  for (const place of places) {
    const { removed, failed } = await removeAbandonedScratch(place);
    if (removed.length > 0) log.info(`Removed the leftovers of a run that was killed: ${removed.join(', ')}`);
    if (failed.length > 0) {
      log.warn(
        `Cannot remove the leftovers of a run that was killed. Remove them yourself: ${failed.join(', ')}`,
      );
    }
  }
}

/**
 * A restore that was killed may have left services down: the next run, whatever its verb, puts that right before its
 * own work. What stands in the way is a warning here; verbs that work on the live stack refuse by themselves.
 */
async function recoverUnfinished(settings: Settings, env: Environment, ctx: OperationContext): Promise<void> {
  try {
    if (!(await hasPendingRestores(settings))) return;
    const whole = await withEverything(settings, env, ctx);
    // A store whose password is missing cannot be put back, and keeps nothing else from being.
    const overrides = { includeModels: false, capturedFile: () => Promise.resolve(new Uint8Array()) };
    const stack = await composeStack(whole.settings, overrides, env);
    await recoverInterrupted({ ...stack, stack: stack.name }, stack.journal, ctx);
  } catch (error) {
    throwIfAborted(ctx.signal);
    const { message, hint } = toTarsError(error, 'An interrupted restore could not be recovered');
    ctx.log.warn(hint === undefined ? message : `${message}. ${hint}`);
  }
}

/** After an interruption whatever surfaced is a consequence of it, unless it says how things were left. */
function interruptionOf(error: unknown, signal: AbortSignal): TarsError {
  const saysHowThingsAre = error instanceof TarsError && error.code === 'restore-failed';
  return saysHowThingsAre || error instanceof InterruptedError ? error : abortError(signal, error);
}
