import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { throwIfAborted } from '../../model/abort.ts';
import { TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { RestartableArmedGuardian, RestartableGuardian, ResumeAction } from '../../ports/runtime.ts';
import { childEnvironment } from '../child-environment.ts';
import {
  disarmLine,
  guardianReplySchema,
  restartLine,
  type GuardianPlan,
  type GuardianReply,
} from './protocol.ts';

const readyTimeoutMs = 15_000;

/**
 * The guardian of the writer pause: a Node process in a session of its own, told what to do through its stdin. The
 * action `signal` concerns the process and all its descendants at that time, and only if the pid still means the
 * process it meant when the guardian was armed.
 */
export function createGuardian(): RestartableGuardian {
  return { arm };
}

async function arm(
  actions: readonly ResumeAction[],
  pauseMaxMs: number,
  ctx: OperationContext,
): Promise<RestartableArmedGuardian> {
  throwIfAborted(ctx.signal);
  const child = startGuardian();
  const replies = readReplies(child.stdout);
  const plan: GuardianPlan = {
    actions: actions.map((action) =>
      action.kind === 'exec' ? { ...action, argv: [...action.argv] } : action,
    ),
    pauseMaxMs,
  };
  try {
    child.stdin.write(`${JSON.stringify(plan)}\n`);
    const answer = await withinTime(replies.next(), ctx);
    if (answer?.type !== 'ready') throw new TarsError('subprocess', 'The guardian ended before it was ready');
  } catch (cause) {
    // Its stdin closing makes it resume the writers, which nobody has paused yet.
    child.stdin.destroy();
    throw toTarsError(cause, 'Cannot start the guardian of the writer pause');
  }
  hold(child, false);
  let disarmed: Promise<boolean> | undefined;
  const disarm = async (): Promise<boolean> => {
    hold(child, true);
    try {
      child.stdin.write(`${disarmLine}\n`);
      const answer = await replies.next();
      // Without an answer nobody knows what it did: do not claim an unbroken pause.
      return answer?.type === 'disarmed' ? answer.fired : true;
    } finally {
      child.stdin.destroy();
      hold(child, false);
    }
  };
  return {
    restart: (ms) => void child.stdin.write(`${restartLine(ms)}\n`),
    disarm: () => (disarmed ??= disarm()),
  };
}

type GuardianProcess = ChildProcessByStdio<Writable, Readable, null>;

function startGuardian(): GuardianProcess {
  const entry = new URL(
    import.meta.url.endsWith('.ts') ? './guardian-main.ts' : './guardian-main.js',
    import.meta.url,
  );
  // Not execa: this child must outlive us.
  const child = spawn(process.execPath, [fileURLToPath(entry)], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'ignore'],
    env: childEnvironment(),
  });
  // A guardian that is gone shows by its silence.
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  return child;
}

interface Replies {
  /** The next reply; undefined when the guardian has ended. */
  next(): Promise<GuardianReply | undefined>;
}

function readReplies(stdout: Readable): Replies {
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  return {
    async next() {
      const line = await lines.next();
      return line.done === true ? undefined : guardianReplySchema.parse(JSON.parse(line.value));
    },
  };
}

/** Whether waiting for the guardian keeps this process alive. */
function hold(child: GuardianProcess, alive: boolean): void {
  for (const handle of [child, child.stdin, child.stdout] as { ref?(): void; unref?(): void }[]) {
    if (alive) handle.ref?.();
    else handle.unref?.();
  }
}

async function withinTime<T>(promise: Promise<T>, ctx: OperationContext): Promise<T> {
  const over = new AbortController();
  const timeout = ctx.clock.sleep(readyTimeoutMs, AbortSignal.any([over.signal, ctx.signal])).then(() => {
    throw new TarsError('timeout', `The guardian was not ready within ${readyTimeoutMs} ms`);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    over.abort();
    timeout.catch(() => undefined);
  }
}
