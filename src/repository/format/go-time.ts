import { CorruptionError } from '../../model/errors.ts';

const nanosecondsPerSecond = 1_000_000_000n;
const nanosecondsPerMinute = 60n * nanosecondsPerSecond;
const timePattern = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/;
/** The years RFC 3339 can express; restic clamps to them too. */
const firstNs = BigInt(Date.parse('0000-01-01T00:00:00Z')) * 1_000_000n;
const lastNs = BigInt(Date.parse('9999-12-31T23:59:59Z')) * 1_000_000n;

/**
 * Nanoseconds since the Unix epoch as Go's `time.RFC3339Nano`: trailing zeros of the fraction trimmed, by a clock that
 * is `offsetMinutes` ahead of UTC.
 */
export function formatGoTime(timeNs: bigint, offsetMinutes = 0): string {
  const wallNs = timeNs + BigInt(offsetMinutes) * nanosecondsPerMinute;
  const clamped = wallNs < firstNs ? firstNs : wallNs > lastNs ? lastNs : wallNs;
  const fraction = ((clamped % nanosecondsPerSecond) + nanosecondsPerSecond) % nanosecondsPerSecond;
  const seconds = (clamped - fraction) / nanosecondsPerSecond;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const digits = fraction.toString().padStart(9, '0').replace(/0+$/, '');
  return `${whole}${digits === '' ? '' : `.${digits}`}${formatOffset(offsetMinutes)}`;
}

/** @throws CorruptionError when `text` is not an RFC 3339 time */
export function parseGoTime(text: string): bigint {
  const match = timePattern.exec(text);
  const whole = match ? Date.parse(`${text.slice(0, 19)}${match[8] ?? 'Z'}`) : Number.NaN;
  if (Number.isNaN(whole)) throw new CorruptionError(`"${text}" is not an RFC 3339 time`);
  return BigInt(whole) * 1_000_000n + BigInt((match?.[7] ?? '').padEnd(9, '0'));
}

/** What follows the time in RFC 3339: `Z` for UTC, else `+02:00`. */
function formatOffset(offsetMinutes: number): string {
  if (offsetMinutes === 0) return 'Z';
  const minutes = Math.abs(offsetMinutes);
  const twoDigits = (value: number): string => String(value).padStart(2, '0');
  return `${offsetMinutes < 0 ? '-' : '+'}${twoDigits(Math.floor(minutes / 60))}:${twoDigits(minutes % 60)}`;
}

/** How many minutes the clock that a {@link parseGoTime} text was written by is ahead of UTC. */
export function parseGoOffset(text: string): number {
  const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)$/.exec(text) ?? [];
  return (sign === '-' ? -1 : 1) * (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) || 0;
}

/** A `Date` as nanoseconds since the Unix epoch. */
export function dateToNs(date: Date): bigint {
  return BigInt(date.getTime()) * 1_000_000n;
}
