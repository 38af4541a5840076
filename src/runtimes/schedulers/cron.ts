import { startProgram } from '../../disk/start-program.ts';
import { throwIfAborted } from '../../model/abort.ts';
import { ConfigurationError, hasErrno, TarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ScheduleChange, ScheduledName, SchedulePlan, Scheduler } from '../../ports/scheduler.ts';
import { childEnvironment } from '../child-environment.ts';
import { cronRuns } from './cron-daemon.ts';
import { crontabBlock, leftoversIn, splitCrontab } from './crontab-block.ts';

/** The crontab of the user who runs this; other lines of it stay as they are, byte for byte. */
export function createCronScheduler(): Scheduler {
  return {
    name: 'cron',
    runs: cronRuns,
    planInstall: (stack, ctx) => plan(stack, crontabBlock(stack), ctx),
    planRemove: (stack, ctx) => plan(stack, '', ctx),
  };
}

/** The plan after which the crontab has `wanted` as the only block of that `tars.yaml`. */
async function plan(name: ScheduledName, wanted: string, ctx: OperationContext): Promise<SchedulePlan> {
  const found = await readCrontab(ctx);
  const leftovers = leftoversIn(found, name);
  const { before, block, after } = splitCrontab(leftovers.reduce(withoutBlock, found), name.stack);
  const gap = block === '' && wanted !== '' && before !== '' && !before.endsWith('\n') ? '\n' : '';
  const next = `${before}${gap}${wanted}${after}`;
  const same = next === found;
  return {
    state: `${block}${leftovers.join('')}` === '' ? 'absent' : same ? 'installed' : 'differs',
    leftovers,
    changes: [
      ...leftovers.map((old): ScheduleChange => ({
        action: 'remove',
        what: `lines of ${old} in your crontab`,
        text: '',
      })),
      ...(block === wanted ? [] : [changeOf(block, wanted)]),
    ],
    commands: same ? [] : [next === '' ? ['crontab', '-r'] : ['crontab', '-']],
    async execute(context) {
      if (same) return;
      if ((await readCrontab(context)) !== found) {
        throw new TarsError('internal', 'Another program has just changed the crontab', {
          hint: 'Nothing was changed. Run this again.',
        });
      }
      await (next === '' ? crontab(['-r'], '', context) : crontab(['-'], next, context));
    },
  };
}

function withoutBlock(crontab: string, stack: string): string {
  const { before, after } = splitCrontab(crontab, stack);
  return `${before}${after}`;
}

function changeOf(block: string, wanted: string): ScheduleChange {
  const action = wanted === '' ? 'remove' : block === '' ? 'create' : 'replace';
  return { action, what: 'lines in your crontab', text: wanted };
}

/** Latin-1, which maps every byte to one character and back. */
async function readCrontab(ctx: OperationContext): Promise<string> {
  const { exitCode, stdout, stderr } = await crontab(['-l'], '', ctx, { mayFail: true });
  if (exitCode === 0) return stdout.includes(shownReturn) ? readUnaltered(stdout, ctx) : stdout;
  if (/no crontab for/i.test(stderr)) return '';
  throw new TarsError('subprocess', `crontab -l failed: ${stderr.trim()}`);
}

/** Debian's `crontab -l` shows a carriage return so, which cannot be told from the two characters themselves. */
const shownReturn = '\\r';

/** The editor of `crontab -e` is given the file itself. One that changes nothing changes nothing. */
async function readUnaltered(listed: string, ctx: OperationContext): Promise<string> {
  const { stdout } = await crontab(['-e'], '', ctx, { env: { VISUAL: 'cat', EDITOR: 'cat' } });
  if (stdout.replaceAll('\r', shownReturn) === listed) return stdout;
  throw new TarsError('subprocess', 'The crontab cannot be read, because it contains carriage returns', {
    hint: 'Remove them with crontab -e, or add the lines of --dry-run by hand.',
  });
}

async function crontab(
  args: readonly string[],
  input: string,
  ctx: OperationContext,
  { mayFail = false, env = {} }: { readonly mayFail?: boolean; readonly env?: Record<string, string> } = {},
): Promise<{ readonly exitCode: number | undefined; readonly stdout: string; readonly stderr: string }> {
  const result = await startProgram(
    'crontab',
    args,
    {
      input: Buffer.from(input, 'latin1'),
      encoding: 'latin1',
      stripFinalNewline: false,
      reject: false,
      // What it says is compared.
      env: childEnvironment({ LC_ALL: 'C', ...env }),
      extendEnv: false,
    },
    ctx.signal,
  );
  // One that ended well has changed the crontab, whatever came meanwhile.
  if (result.exitCode !== 0) throwIfAborted(ctx.signal);
  if (hasErrno(result.cause, 'ENOENT') || hasErrno(result, 'ENOENT')) {
    throw new ConfigurationError('There is no crontab program here', {
      hint: 'Install cron, or run `tars daemon` instead.',
    });
  }
  if (result.exitCode !== 0 && !mayFail) {
    throw new TarsError('subprocess', `crontab ${args.join(' ')} failed: ${result.stderr.trim()}`);
  }
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}
