import { InvalidArgumentError, Option, type Command } from 'commander';
import type { CommandAnyway } from '../operations/retention/note.ts';
import type { RuleSettings } from '../settings/retention.ts';

/** Retention rules as flags. */
export interface KeepFlags {
  readonly keepLast?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  readonly keepWithin?: string;
  readonly keepTag?: readonly string[];
}

/** Adds the `--keep-*` flags to a verb; `hidden` where its help only mentions them. */
export function addKeepOptions(command: Command, options: { readonly hidden: boolean }): Command {
  for (const option of keepOptions()) command.addOption(option.hideHelp(options.hidden));
  return command;
}

const keepOptions = (): Option[] => [
  new Option('--keep-last <n>', 'keep the newest n snapshots').argParser(parseCount),
  new Option('--keep-hourly <n>', 'keep the newest of each of the last n hours that have one').argParser(
    parseCount,
  ),
  new Option('--keep-daily <n>', 'the same for days').argParser(parseCount),
  new Option('--keep-weekly <n>', 'the same for weeks, which start on Monday').argParser(parseCount),
  new Option('--keep-monthly <n>', 'the same for months').argParser(parseCount),
  new Option('--keep-yearly <n>', 'the same for years').argParser(parseCount),
  new Option('--keep-within <duration>', 'keep all that are younger than this, such as 1y6m, 30d, 12h'),
  new Option('--keep-tag <tags>', 'keep all with these tags (a,b for both; repeatable)').argParser(
    collectTags,
  ),
];

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Give a whole number, 1 or more.');
  return Number(text);
}

/** Commas stay: they stand between tags that belong together. */
function collectTags(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, value];
}

/** Splits `a,b` and repeated flags into names. */
export function collectNames(value: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, ...value.split(',').filter((name) => name !== '')];
}

/** Where and by what something is to be forgotten, as far as the command has to say it. */
interface ForgetPlace {
  /** A directory of archives instead of the repository. */
  readonly outputDir?: string | undefined;
  /** Rules given as flags. */
  readonly rules?: RuleSettings | undefined;
}

/** The command that forgets although something holds that back; of another stack or host where one is given. */
export const forgetAnyway =
  ({ outputDir, rules = {} }: ForgetPlace): CommandAnyway =>
  ({ stack, hostname }) => {
    const words = [
      ...(stack === undefined ? [] : ['--stack', stack]),
      ...(hostname === undefined ? [] : ['--host', hostname]),
      ...(outputDir === undefined ? [] : ['--output-dir', outputDir]),
      ...flagsOfRules(rules),
    ];
    return ['tars forget', ...words, '--allow-shrunk'].join(' ');
  };

/** The flags that say these rules again. */
function flagsOfRules(rules: RuleSettings): string[] {
  return Object.entries(rules).flatMap(([name, value]) => {
    const flag = name === 'keep_tags' ? '--keep-tag' : `--${name.replaceAll('_', '-')}`;
    const values = Array.isArray(value) ? value : [value];
    return values.flatMap((each) => (each === undefined ? [] : [flag, String(each)]));
  });
}

/** Undefined when no flag is a rule. */
export function rulesOfFlags(flags: KeepFlags): RuleSettings | undefined {
  const rules: RuleSettings = {
    keep_last: flags.keepLast,
    keep_hourly: flags.keepHourly,
    keep_daily: flags.keepDaily,
    keep_weekly: flags.keepWeekly,
    keep_monthly: flags.keepMonthly,
    keep_yearly: flags.keepYearly,
    keep_within: flags.keepWithin,
    ...(flags.keepTag === undefined ? {} : { keep_tags: [...flags.keepTag] }),
  };
  return Object.values(rules).some((rule) => rule !== undefined) ? rules : undefined;
}
