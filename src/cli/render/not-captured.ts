import type { NotCaptured } from '../../model/manifest.ts';
import { formatBytes } from './units.ts';

/** One line for each part of the stack that is in no component. */
export function notCapturedLines(parts: readonly NotCaptured[]): readonly string[] {
  return parts.map(({ subject, reason, sizeBytes }) => {
    const size = sizeBytes === undefined ? '' : `, ${formatBytes(sizeBytes)}`;
    return `Not captured: ${subject} (${reason}${size})`;
  });
}
