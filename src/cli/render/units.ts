import { formatMoment } from '../../model/calendar.ts';

export { formatBytes } from '../../model/bytes.ts';
export { formatMs } from '../../model/duration.ts';
export { formatMoment };

/** A long time in its largest unit: `40 s`, `5 min`, `15 h`, `3 days`. */
export function formatAge(ageMs: number): string {
  const minutes = Math.floor(ageMs / 60_000);
  if (minutes < 1) return `${Math.max(0, Math.floor(ageMs / 1000))} s`;
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

/** When something is to run next: its moment, or that it has come. */
export function formatNext(time: Date, now: Date): string {
  return time <= now ? 'due now' : formatMoment(time);
}
