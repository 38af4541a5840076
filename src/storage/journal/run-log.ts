import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { syncDescriptorNow } from '../../disk/sync.ts';
import { replaceDurablySync } from '../../disk/durable-file.ts';
import { isMissing } from '../../disk/is-there.ts';
import { TarsError, toTarsError } from '../../model/errors.ts';
import {
  recordedVerbs,
  type RetentionOutcome,
  type RunEnd,
  type RunLog,
  type RunRecord,
} from '../../ports/run-log.ts';
import { lockFile } from '../../disk/kernel-lock.ts';
import { hasEnded, processStartOf } from '../../disk/process-identity.ts';
import type { KnownRepository, RepositoryMark } from './repository-mark.ts';

/** How many of the newest runs are kept. */
const runsMax = 500;
/** Beyond this many lines, the file is written again. */
const linesMax = 3 * runsMax;
/** Longer than any message of ours; an exception's may quote a whole answer. */
const messageCharsMax = 2000;
/** How many entries of each list are recorded; one is enough to make someone look. */
const listedMax = 20;
/** Others write a line or the whole file: milliseconds. */
const waitMs = 5000;

const endSchema = z.object({
  exitCode: z.int(),
  outcome: z.enum(['ok', 'partial', 'failed', 'locked', 'interrupted']),
  snapshot: z.string().optional(),
  capturedBytes: z.number().optional(),
  addedBytes: z.number().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  retention: z
    .object({
      heldBack: z.array(z.string()),
      cure: z.string(),
      letGo: z.array(z.string()),
      ahead: z.array(z.object({ id: z.string(), time: z.coerce.date() })),
      failure: z.string().optional(),
    })
    // The name that 1.0 gave the command.
    .transform(({ cure, ...retention }) => ({ ...retention, command: cure }))
    .optional(),
});
const startedSchema = z.object({
  type: z.literal('started'),
  id: z.string(),
  verb: z.enum(recordedVerbs),
  options: z.array(z.string()),
  pid: z.int(),
  processStart: z.string(),
  at: z.coerce.date(),
  /** Missing in what 1.0.12 and older wrote. */
  host: z.string().optional(),
  /** Missing as well while no repository was ever seen. */
  repository: z.string().optional(),
});
const finishedSchema = z.object({
  type: z.literal('finished'),
  id: z.string(),
  at: z.coerce.date(),
  end: endSchema,
});
const lineSchema = z.discriminatedUnion('type', [startedSchema, finishedSchema]);
type Started = z.infer<typeof startedSchema>;
type Finished = z.infer<typeof finishedSchema>;
interface Run {
  readonly started: Started;
  finished?: Finished;
}

/** Whose runs are recorded: those of a stack on a host, into one repository. */
export interface RunOwner {
  readonly stack: string;
  readonly host: string;
  readonly repository: RepositoryMark;
}

/**
 * Runs as JSON lines in `directory` (0600): one when a run starts, one when it ends, each synced. A line that a crash
 * cut off is passed over; a start whose process has gone without an end was killed. The file is the stack's; which host
 * and repository a run belongs to stands in its line. One without is taken for the owner's unless it is older than the
 * repository.
 */
export function createRunLog(directory: string, { stack, host, repository }: RunOwner): RunLog {
  const path = join(directory, `${stack}.runs.jsonl`);
  const lockPath = join(directory, `${stack}.runs.lock`);

  // Synchronous while it holds the lock: another writer of this process waits for it without letting it go on.
  const append = (line: object): void => {
    try {
      using lock = lockFile(lockPath, waitMs);
      if (lock === undefined) throw new TarsError('timeout', `${lockPath} stays locked`);
      appendLine(path, JSON.stringify(line));
      shorten(path);
    } catch (error) {
      throw toTarsError(error, `Cannot record the run in ${path}`);
    }
  };

  return {
    begin({ verb, options }, at) {
      const id = randomBytes(8).toString('hex');
      const { pid } = process;
      const processStart = processStartOf(pid);
      const mark = repository.read();
      const owner = { host, repository: mark.id };
      append({ type: 'started', id, verb, options, pid, processStart, at: at.toISOString(), ...owner });
      repository.remember();
      return {
        finish: (end, finishedAt) =>
          append({ type: 'finished', id, at: finishedAt.toISOString(), end: stored(end) }),
      };
    },
    runs() {
      const mark = repository.read();
      return readRuns(path)
        .runs.filter(({ started }) => belongs(started, host, mark))
        .map(recordOf);
    },
  };
}

function belongs(started: Started, host: string, mark: KnownRepository): boolean {
  if (started.host !== undefined && started.host !== host) return false;
  if (started.repository !== undefined) return started.repository === mark.id;
  return mark.since === undefined || started.at >= mark.since;
}

const shortened = (text: string): string => text.slice(0, messageCharsMax);

const stored = ({ error, retention, ...end }: RunEnd): z.input<typeof endSchema> => ({
  ...end,
  ...(error === undefined ? {} : { error: { ...error, message: shortened(error.message) } }),
  ...(retention === undefined ? {} : { retention: storedRetention(retention) }),
});

const storedRetention = ({
  heldBack,
  command,
  letGo,
  ahead,
  failure,
}: RetentionOutcome): z.input<typeof endSchema>['retention'] => ({
  heldBack: heldBack.slice(0, listedMax).map(shortened),
  cure: command,
  letGo: [...letGo],
  ahead: ahead.slice(0, listedMax),
  failure: failure === undefined ? undefined : shortened(failure),
});

/** A line that was cut off gets an end of its own first, so that this one stands alone. */
function appendLine(path: string, line: string): void {
  const file = openSync(path, 'a+', 0o600);
  try {
    const { size } = fstatSync(file);
    const last = Buffer.alloc(1);
    if (size > 0) readSync(file, last, 0, 1, size - 1);
    const gap = size > 0 && last.toString() !== '\n' ? '\n' : '';
    writeSync(file, `${gap}${line}\n`);
    syncDescriptorNow(file);
  } finally {
    closeSync(file);
  }
}

function readRuns(path: string): { readonly runs: readonly Run[]; readonly lines: number } {
  const text = textOf(path);
  const lines = text.split('\n').filter((line) => line !== '');
  const runs = new Map<string, Run>();
  for (const line of lines.map(parseLine)) {
    if (line?.type === 'started') runs.set(line.id, { started: line });
    const run = line?.type === 'finished' ? runs.get(line.id) : undefined;
    if (run !== undefined && line?.type === 'finished') run.finished = line;
  }
  return { runs: [...runs.values()], lines: lines.length };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return '';
    throw toTarsError(error, `Cannot read ${path}`);
  }
}

function parseLine(line: string): Started | Finished | undefined {
  try {
    return lineSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

function recordOf({ started, finished }: Run): RunRecord {
  const { id, verb, options, pid, processStart, at } = started;
  const common = { id, verb, options, pid, startedAt: at };
  if (finished !== undefined) {
    return { ...common, finishedAt: finished.at, end: finished.end, state: 'finished' };
  }
  const alive = processStart !== '' && !hasEnded(pid, processStart);
  return { ...common, state: alive ? 'running' : 'killed' };
}

/** Of old runs only those stay that say when a verb last ended, and last went well, for each host and repository. */
function shorten(path: string): void {
  const { runs, lines } = readRuns(path);
  if (lines <= linesMax) return;
  const kept = new Set(runs.slice(-runsMax));
  const kinds = Map.groupBy(
    runs.filter(({ finished }) => finished !== undefined),
    ({ started: { verb, host, repository } }) => [verb, host, repository].join('\0'),
  );
  for (const ended of kinds.values()) {
    for (const run of [ended.at(-1), ended.findLast(({ finished }) => finished?.end.outcome === 'ok')]) {
      if (run !== undefined) kept.add(run);
    }
  }
  const text = runs
    .filter((run) => kept.has(run))
    .flatMap(({ started, finished }) => (finished === undefined ? [started] : [started, finished]))
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
  // If a crash undoes the renaming, only more than need be is kept.
  replaceDurablySync(path, text);
}
