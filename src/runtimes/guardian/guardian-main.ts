/**
 * The guardian process. It carries the plan's actions out when its stdin closes without `disarm` (we died, however)
 * or `pauseMaxMs` after it reported ready (we hang). It is deaf to the signals that end us, and ends by itself.
 */
import { startProgram } from '../../disk/start-program.ts';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { continueTree, readProcess } from '../process-table.ts';
import {
  disarmLine,
  guardianPlanSchema,
  restartOf,
  type GuardianPlan,
  type GuardianReply,
} from './protocol.ts';

type Action = GuardianPlan['actions'][number];

const local = { attempts: 5, delayMs: 300 };
/** Until an Engine that hangs or is being restarted answers again: ten minutes. */
const throughEngine = { attempts: 1200, delayMs: 500 };
const actionTimeoutMs = 10_000;

/** The action as a call that returns whether it worked. */
type Prepared = () => Promise<boolean>;

/** Remembers which process a pid means now, while the writer surely runs. */
async function prepare(action: Action): Promise<Prepared> {
  if (action.kind === 'exec') {
    const [program = '', ...args] = action.argv;
    return async () =>
      !(await startProgram(program, args, { reject: false, stdio: 'ignore', timeout: actionTimeoutMs }))
        .failed;
  }
  if (action.kind === 'unpause' || action.kind === 'start') {
    // Loaded only where needed: the guardian of a process stack is to stand ready at once.
    const [{ connectEngine }, { startIfStopped, unpause }] = await Promise.all([
      import('../docker/engine/engine.ts'),
      import('../docker/index.ts'),
    ]);
    const engine = await connectEngine(action.engine);
    return async () => {
      await (action.kind === 'start' ? startIfStopped : unpause)(engine, action.containerId);
      return true;
    };
  }
  const then = await readProcess(action.pid);
  return async () => {
    const now = await readProcess(action.pid);
    if (now?.startTicks === then?.startTicks) await continueTree(action.pid);
    return true;
  };
}

async function persist(kind: Action['kind'], action: Prepared): Promise<void> {
  const { attempts, delayMs } = kind === 'exec' || kind === 'signal' ? local : throughEngine;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    if (await action().catch(() => false)) return;
    await delay(delayMs);
  }
}

function reply(message: GuardianReply): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function guard(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const first = await lines.next();
  if (first.done === true) return;
  const plan = guardianPlanSchema.parse(JSON.parse(first.value));
  const actions = await Promise.all(
    plan.actions.map(async (action) => ({ kind: action.kind, run: await prepare(action) })),
  );
  let firing: Promise<unknown> | undefined;
  const fire = (): Promise<unknown> =>
    (firing ??= Promise.all(actions.map(({ kind, run }) => persist(kind, run))));
  const runFor = (ms: number): NodeJS.Timeout => setTimeout(() => void fire(), ms);
  let timer = runFor(plan.pauseMaxMs);
  reply({ type: 'ready' });
  let next = await lines.next();
  for (;;) {
    clearTimeout(timer);
    const anewMs = next.done === true ? undefined : restartOf(next.value);
    if (anewMs === undefined) break;
    timer = runFor(anewMs);
    next = await lines.next();
  }
  const disarmed = next.done !== true && next.value === disarmLine;
  const fired = firing !== undefined;
  await (disarmed ? firing : fire());
  if (disarmed) reply({ type: 'disarmed', fired });
}

for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM', 'SIGQUIT'] as const) process.on(signal, () => undefined);
// The reader may be gone; the actions matter, not the answer.
process.stdout.on('error', () => undefined);
await guard();
// Stdin may still be open, when we hang: nothing is left to do here.
process.stdin.destroy();
