/** What the templates propose for the nights to come. */
export interface CareValues {
  /** When a backup runs every night, in local time; undefined leaves the section a comment. */
  readonly nightly: { readonly hour: number; readonly minute: number } | undefined;
  /** Whether the proposed policy holds, or is a comment. */
  readonly retention: boolean;
}

/** For who has not been asked. */
export const noCare: CareValues = { nightly: undefined, retention: false };

/** The sections `retention` and `schedule`; what was not chosen is one line to uncomment. */
export function careSections({ nightly, retention }: CareValues): readonly (readonly string[])[] {
  return [
    [
      '# `tars forget` keeps a snapshot if any of these rules keeps it.',
      ...(retention ? retentionLines : [`# retention: { ${policy} }`]),
    ],
    [
      '# The times of scheduled tasks, after `tars schedule install`: minute, hour, day, month, weekday.',
      ...(nightly === undefined
        ? ['# schedule: { backup: 30 2 * * *, forget: 0 4 * * 0, check: 0 5 1 * * }']
        : scheduleLines(nightly, retention)),
    ],
  ];
}

const policy = 'keep_last: 3, keep_daily: 7, keep_weekly: 4, keep_monthly: 12';

const retentionLines = [
  'retention:',
  '  keep_last: 3 # the newest three, whenever they were taken',
  '  keep_daily: 7 # the newest of each of the last seven days that have one',
  '  keep_weekly: 4',
  '  keep_monthly: 12',
  '  after_backup: false # true: also forget after every backup',
];

/** Forgetting needs a policy to go by. */
function scheduleLines(
  { hour, minute }: NonNullable<CareValues['nightly']>,
  retention: boolean,
): readonly string[] {
  return [
    'schedule:',
    `  backup: ${minute} ${hour} * * * # every night at ${clockText(hour, minute)}, local time`,
    `  ${retention ? '' : '# '}forget: 0 4 * * 0 # Sundays at 04:00: forget the snapshots that retention does not keep, then prune`,
    '  check: 0 5 1 * * # on the first of the month at 05:00: read and verify the whole repository',
  ];
}

/** `02:30` */
export const clockText = (hour: number, minute: number): string =>
  [hour, minute].map((part) => String(part).padStart(2, '0')).join(':');
