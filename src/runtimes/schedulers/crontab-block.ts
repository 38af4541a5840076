import { shellQuoted, shellWord } from '../../model/shell-word.ts';
import { ConfigurationError } from '../../model/errors.ts';
import { scheduledTasks } from '../../model/schedule.ts';
import type { ScheduledName, ScheduledStack } from '../../ports/scheduler.ts';

/** cron's own has neither sbin nor local directories. */
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** When what was missed is looked for, each hour. */
const catchUpMinute = 17;

const beginLine = (stack: string): string =>
  `# BEGIN tars ${stack} (written by tars schedule install; tars schedule remove takes it out)`;
const endLine = (stack: string): string => `# END tars ${stack}`;

/**
 * The lines of a stack for crontab(5). Every one of them runs whatever is due by then, so that what the machine slept
 * through or was off for is caught up within the hour.
 */
export function crontabBlock({ stack, times, command, delayMinutesMax }: ScheduledStack): string {
  const delay = delayMinutesMax > 0 ? ['--delay'] : [];
  const words = [...command, 'schedule', 'run', '--quiet', ...delay].map(quoteForCron).join(' ');
  const action = `PATH=${searchPath} nice -n 10 ${words}`;
  const expressions = scheduledTasks.flatMap((task) => times[task]?.expression ?? []);
  const lines = [...new Set([...expressions, `${catchUpMinute} * * * *`])].map((time) => `${time} ${action}`);
  return [beginLine(stack), ...lines, endLine(stack), ''].join('\n');
}

/** Stacks other than `stack` whose lines run the `tars.yaml` at the end of `command`, as they did under another name. */
export function leftoversIn(crontab: string, { stack, command }: ScheduledName): readonly string[] {
  const action = `${command.slice(-2).map(quoteForCron).join(' ')} schedule run `;
  const names = [...crontab.matchAll(/^# BEGIN tars (\S+) /gm)].map(([, name = '']) => name);
  return [...new Set(names)].filter(
    (name) => name !== stack && splitCrontab(crontab, name).block.includes(` ${action}`),
  );
}

/** A word for sh, in which cron takes `%` for the end of the line unless it is escaped. */
function quoteForCron(word: string): string {
  if (/[\n\0]/.test(word)) {
    throw new ConfigurationError(`A line of a crontab cannot hold the path ${JSON.stringify(word)}`);
  }
  return word.includes('%') ? shellQuoted(word).replaceAll('%', '\\%') : shellWord(word);
}

/** A crontab around the block of one stack. */
interface CrontabParts {
  readonly before: string;
  /** Empty when there is none. */
  readonly block: string;
  readonly after: string;
}

/**
 * Takes a crontab apart; joined, the parts are what it was, byte for byte.
 * @throws ConfigurationError when the lines around the block are not one pair
 */
export function splitCrontab(crontab: string, stack: string): CrontabParts {
  const begins = offsetsOf(crontab, `# BEGIN tars ${stack} `, false);
  const ends = offsetsOf(crontab, endLine(stack), true);
  const [begin] = begins;
  const [end] = ends;
  if (begin === undefined && end === undefined) return { before: crontab, block: '', after: '' };
  if (begins.length !== 1 || ends.length !== 1 || begin === undefined || end === undefined || end < begin) {
    throw new ConfigurationError(
      `The lines of tars for ${stack} in the crontab have no clear beginning and end`,
      {
        hint: `Remove them by hand with crontab -e, from "# BEGIN tars ${stack}" to "${endLine(stack)}".`,
      },
    );
  }
  const newline = crontab.indexOf('\n', end);
  const past = newline === -1 ? crontab.length : newline + 1;
  return { before: crontab.slice(0, begin), block: crontab.slice(begin, past), after: crontab.slice(past) };
}

/** Where lines begin that start with `text`, or are it. */
function offsetsOf(crontab: string, text: string, whole: boolean): number[] {
  const found: number[] = [];
  for (let offset = 0; offset < crontab.length;) {
    const newline = crontab.indexOf('\n', offset);
    const line = crontab.slice(offset, newline === -1 ? crontab.length : newline);
    if (whole ? line === text : line.startsWith(text)) found.push(offset);
    offset += line.length + 1;
  }
  return found;
}
