import { Cron } from 'croner';

/** One of the five fields of a crontab line: the values it allows, in order. */
interface CronField {
  readonly values: readonly number[];
  /** Written as `*`: the field says nothing. */
  readonly any: boolean;
}

/** When something happens again and again, as the first five fields of a crontab line say it, in local time. */
export interface CronExpression {
  readonly expression: string;
  readonly minute: CronField;
  readonly hour: CronField;
  readonly day: CronField;
  readonly month: CronField;
  /** Sunday is 0. */
  readonly weekday: CronField;
}

interface FieldKind {
  readonly name: 'minute' | 'hour' | 'day' | 'month' | 'weekday';
  readonly min: number;
  readonly max: number;
  /** Three letters each, the first one meaning `min`. */
  readonly names: readonly string[];
}

const monthNames = 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ');
const weekdayNames = 'sun mon tue wed thu fri sat'.split(' ');
const fieldKinds: readonly FieldKind[] = [
  { name: 'minute', min: 0, max: 59, names: [] },
  { name: 'hour', min: 0, max: 23, names: [] },
  { name: 'day', min: 1, max: 31, names: [] },
  { name: 'month', min: 1, max: 12, names: monthNames },
  { name: 'weekday', min: 0, max: 7, names: weekdayNames },
];

/**
 * Reads what crontab(5) describes, and only what every cron takes the same way: numbers, names, lists, ranges, and
 * steps after `*` or a range. No `@daily`, no seconds, no `L`, `W`, `#` or `?`.
 * @throws RangeError with a clause that names the field
 */
export function parseCronExpression(expression: string): CronExpression {
  const words = expression.trim().split(/\s+/);
  if (words.length !== 5) {
    throw new RangeError('five fields are needed: minute, hour, day, month, weekday, such as 30 2 * * *');
  }
  const fields = fieldKinds.map((kind, index) => parseField(kind, words[index] ?? ''));
  const [minute, hour, day, month, weekday] = fields as [
    CronField,
    CronField,
    CronField,
    CronField,
    CronField,
  ];
  const cron = { expression: words.join(' '), minute, hour, day, month, weekday };
  const [dayWord = '', weekdayWord = ''] = [words[2], words[4]];
  if (!day.any && !weekday.any && `${dayWord}${weekdayWord}`.includes('*')) {
    throw new RangeError(
      `day ${dayWord} beside weekday ${weekdayWord} has different meanings in different cron programs: list the days instead`,
    );
  }
  if (timesOf(cron).nextRun(new Date(0)) === null) throw new RangeError('that day does not exist');
  return cron;
}

function parseField(kind: FieldKind, text: string): CronField {
  const found = new Set(text.split(',').flatMap((part) => parsePart(kind, part)));
  if (kind.name === 'weekday' && found.delete(7)) found.add(0);
  return { values: [...found].sort((a, b) => a - b), any: text === '*' };
}

function parsePart(kind: FieldKind, part: string): number[] {
  const wrong = (why: string): never => {
    throw new RangeError(`${kind.name} ${part === '' ? '(empty)' : part}: ${why}`);
  };
  const match = /^(?:(\*)|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(part);
  if (match === null) return wrong('expected *, a value, a range such as 1-5, or */15');
  const [, star, from, to, step] = match;
  if (step !== undefined && star === undefined && to === undefined) {
    return wrong('a step needs a range or * before it');
  }
  const max = kind.name === 'weekday' && star !== undefined ? 6 : kind.max;
  const first = star === undefined ? valueOf(kind, from ?? '') : kind.min;
  const last = star === undefined ? valueOf(kind, to ?? from ?? '') : max;
  if (first === undefined || last === undefined) {
    return wrong(`${kind.min} to ${kind.max}${kind.names.length === 0 ? '' : ' or three-letter names'}`);
  }
  if (first > last) return wrong('the range is reversed');
  const stride = Number(step ?? 1);
  if (stride === 0) return wrong('a step must be at least 1');
  return Array.from(
    { length: Math.floor((last - first) / stride) + 1 },
    (_, index) => first + index * stride,
  );
}

function valueOf({ min, max, names }: FieldKind, word: string): number | undefined {
  const named = names.indexOf(word.toLowerCase());
  if (named !== -1) return min + named;
  const value = /^\d{1,2}$/.test(word) ? Number(word) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}

/** The first moment after `after`. */
export function nextTime(cron: CronExpression, after: Date): Date {
  return timesOf(cron).nextRun(after) ?? never(cron);
}

/** The last moment at or before `at`. */
export function previousTime(cron: CronExpression, at: Date): Date {
  // What is found lies before the reference; times know no fractions of a second.
  const reference = new Date(Math.floor(at.getTime() / 1000) * 1000 + 1000);
  const [found] = timesOf(cron).previousRuns(1, reference);
  return found ?? never(cron);
}

function never({ expression }: CronExpression): never {
  throw new RangeError(`${expression} never occurs`);
}

/** Parsed once: a daemon asks every minute, for years. */
const crons = new WeakMap<CronExpression, Cron>();

function timesOf(cron: CronExpression): Cron {
  const known = crons.get(cron) ?? new Cron(cron.expression, { mode: '5-part', paused: true });
  crons.set(cron, known);
  return known;
}

/**
 * The same moments as systemd.time(7) writes them, for `OnCalendar=`.
 * @throws RangeError when systemd has no such form: it joins day and weekday with "and", a crontab with "or"
 */
export function toOnCalendar(cron: CronExpression): string {
  const { minute, hour, day, month, weekday } = cron;
  if (!day.any && !weekday.any) {
    throw new RangeError(
      'a day beside a weekday means "either" in a crontab and "both" in systemd: give one of them, or use --cron',
    );
  }
  const two = (value: number): string => String(value).padStart(2, '0');
  const list = ({ values }: CronField, count: number): string =>
    values.length === count ? '*' : values.map(two).join(',');
  const days = weekday.any ? '' : `${weekday.values.map(weekdayOf).join(',')} `;
  return `${days}*-${list(month, 12)}-${list(day, 31)} ${list(hour, 24)}:${list(minute, 60)}:00`;
}

function weekdayOf(value: number): string {
  const name = weekdayNames[value] ?? '';
  return `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
}
