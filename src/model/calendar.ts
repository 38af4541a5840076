import { ConfigurationError } from './errors.ts';

/** A stretch of time in units of the calendar: a month is as long as the month it lies in. */
export interface CalendarSpan {
  readonly years: number;
  readonly months: number;
  readonly days: number;
  readonly hours: number;
}

/** Minutes that clocks are ahead of UTC at a moment, given in milliseconds since the Unix epoch. */
export type OffsetAt = (epochMs: number) => number;

/** The time zone of this machine, or of `TZ`. */
export const localOffsetAt: OffsetAt = (epochMs) => -new Date(epochMs).getTimezoneOffset();

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;
const unitNames = { y: 'years', m: 'months', d: 'days', h: 'hours' } as const;

/**
 * Reads `1y6m30d12h`: years, months, days and hours, as restic writes durations.
 * @throws ConfigurationError naming the text
 */
export function parseSpan(text: string): CalendarSpan {
  const span = { years: 0, months: 0, days: 0, hours: 0 };
  const refuse = (what: string): never => {
    throw new ConfigurationError(`"${text}" is not a duration: ${what}`, {
      hint: 'Write years, months, days and hours such as 1y6m, 30d or 12h.',
    });
  };
  if (!/^(\d+[ymdh])+$/.test(text)) refuse('it needs numbers, each followed by y, m, d or h');
  const seen = new Set<string>();
  for (const [, digits, unit] of text.matchAll(/(\d+)([ymdh])/g)) {
    const name = unitNames[unit as keyof typeof unitNames];
    // restic lets the last one win, which is not what anybody meant.
    if (seen.has(name)) refuse(`it names ${name} twice`);
    seen.add(name);
    span[name] = Number(digits);
  }
  return span;
}

/** The opposite of {@link parseSpan}; units that are zero are left out. */
export function formatSpan(span: CalendarSpan): string {
  return Object.entries(unitNames)
    .map(([unit, name]) => (span[name] === 0 ? '' : `${span[name]}${unit}`))
    .join('');
}

/** True for a span of no length, which as a rule means that none was given. */
export function isZeroSpan({ years, months, days, hours }: CalendarSpan): boolean {
  return years + months + days + hours === 0;
}

/**
 * The moment `span` before `fromMs`, by the calendar of a time zone: days keep the time of day across changes of
 * the clocks, days that a month does not have run into the next. As Go's `Time.AddDate` and `time.Date` do it,
 * also for times of day that do not exist or exist twice. A span beyond all dates gives `-Infinity`.
 */
export function subtractSpan(fromMs: number, span: CalendarSpan, offsetAt: OffsetAt): number {
  const from = new Date(fromMs + offsetAt(fromMs) * minuteMs);
  const wall = new Date(from);
  wall.setUTCFullYear(
    from.getUTCFullYear() - span.years,
    from.getUTCMonth() - span.months,
    from.getUTCDate() - span.days,
  );
  const wallMs = wall.getTime();
  const nearMs = wallMs - offsetAt(wallMs) * minuteMs;
  const resultMs = wallMs - offsetAt(nearMs) * minuteMs - span.hours * hourMs;
  return Number.isNaN(resultMs) ? Number.NEGATIVE_INFINITY : resultMs;
}

/** The calendar's fields at a moment under a fixed offset from UTC. */
export interface CalendarFields {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  /** ISO 8601: weeks begin on Monday, and belong to the year that has their Thursday. */
  readonly isoYear: number;
  readonly isoWeek: number;
}

/** What a calendar and a clock on the wall show at `epochMs`, `offsetMinutes` east of UTC. */
export function calendarFields(epochMs: number, offsetMinutes: number): CalendarFields {
  const wall = new Date(epochMs + offsetMinutes * minuteMs);
  const thursday = new Date(wall.getTime() + (3 - ((wall.getUTCDay() + 6) % 7)) * dayMs);
  const isoYear = thursday.getUTCFullYear();
  // Date.UTC takes years below 100 for those of the last century.
  const newYearMs = new Date(0).setUTCFullYear(isoYear, 0, 1);
  return {
    year: wall.getUTCFullYear(),
    month: wall.getUTCMonth() + 1,
    day: wall.getUTCDate(),
    hour: wall.getUTCHours(),
    isoYear,
    isoWeek: 1 + Math.floor((thursday.getTime() - newYearMs) / dayMs / 7),
  };
}

/** `2026-11-24 02:30`, in local time. */
export function formatMoment(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  return (
    `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ` +
    `${two(time.getHours())}:${two(time.getMinutes())}`
  );
}
