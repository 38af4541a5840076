/** What the templates propose for the nights to come. */
export interface CareValues {
  /** When a backup runs every night, in local time; undefined leaves the section a comment. */
  readonly nightly: { readonly hour: number; readonly minute: number } | undefined;
  /** Whether the proposed policy holds, or is a comment. */
  readonly retention: boolean;
}

/** For who has not been asked. */
export const noCare: CareValues = { nightly: undefined, retention: false };

/** The sections `retention` and `schedule`. */
export function careSections({ nightly, retention }: CareValues): readonly (readonly string[])[] {
  const { hour, minute } = nightly ?? { hour: 2, minute: 30 };
  const forgets = nightly !== undefined && retention;
  return [
    [
      '# Which snapshots `tars forget` keeps: those that any of these lines names.',
      ...commented(!retention, [
        'retention:',
        '  keep_last: 3 # the newest three, whenever they were taken',
        '  keep_daily: 7 # of each of the last seven days that have one, the newest',
        '  keep_weekly: 4',
        '  keep_monthly: 12',
        '  after_backup: false # true: forget after every backup, and not only by the schedule',
      ]),
    ],
    [
      '# When what runs by itself, once `tars schedule install` was run: minute, hour, day, month, weekday.',
      ...commented(nightly === undefined, [
        'schedule:',
        `  backup: ${minute} ${hour} * * * # every night at ${clockText(hour, minute)}, local time`,
        `  ${forgets || nightly === undefined ? '' : '# '}forget: 0 4 * * 0 # Sundays at 04:00: forget what retention does not keep, and give its space back`,
        '  check: 0 5 1 * * # on the first of the month at 05:00: read and verify all of the repository',
      ]),
    ],
  ];
}

/** `02:30` */
export const clockText = (hour: number, minute: number): string =>
  [hour, minute].map((part) => String(part).padStart(2, '0')).join(':');

/** Lines that are meant to be uncommented as they are. */
const commented = (isComment: boolean, lines: readonly string[]): readonly string[] =>
  isComment ? lines.map((line) => `# ${line}`) : lines;
