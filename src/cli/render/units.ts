import { formatMoment } from '../../model/calendar.ts';

export { formatBytes } from '../../model/bytes.ts';
export { formatMoment };

/** `93500` -> `1 min 34 s`, `1234` -> `1.2 s`, `12` -> `12 ms`. */
export function formatMs(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  return `${Math.floor(durationMs / 60_000)} min ${Math.round((durationMs % 60_000) / 1000)} s`;
}

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
