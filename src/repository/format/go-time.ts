import { CorruptionError } from '../../model/errors.ts';

const nanosecondsPerSecond = 1_000_000_000n;
const timePattern = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/;
/** The years RFC 3339 can express; restic clamps to them too. */
const firstNs = BigInt(Date.parse('0000-01-01T00:00:00Z')) * 1_000_000n;
const lastNs = BigInt(Date.parse('9999-12-31T23:59:59Z')) * 1_000_000n;

/** Nanoseconds since the Unix epoch as Go's `time.RFC3339Nano` in UTC: trailing zeros of the fraction trimmed. */
export function formatGoTime(timeNs: bigint): string {
  const clamped = timeNs < firstNs ? firstNs : timeNs > lastNs ? lastNs : timeNs;
  const fraction = ((clamped % nanosecondsPerSecond) + nanosecondsPerSecond) % nanosecondsPerSecond;
  const seconds = (clamped - fraction) / nanosecondsPerSecond;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  const digits = fraction.toString().padStart(9, '0').replace(/0+$/, '');
  return `${whole}${digits === '' ? '' : `.${digits}`}Z`;
}

/** @throws CorruptionError when `text` is not an RFC 3339 time */
export function parseGoTime(text: string): bigint {
  const match = timePattern.exec(text);
  const whole = match ? Date.parse(`${text.slice(0, 19)}${match[8] ?? 'Z'}`) : Number.NaN;
  if (Number.isNaN(whole)) throw new CorruptionError(`"${text}" is not an RFC 3339 time`);
  return BigInt(whole) * 1_000_000n + BigInt((match?.[7] ?? '').padEnd(9, '0'));
}

/** A `Date` as nanoseconds since the Unix epoch. */
export function dateToNs(date: Date): bigint {
  return BigInt(date.getTime()) * 1_000_000n;
}
