import { describeIncomplete, type ComponentManifest, type NotCaptured } from '../../model/manifest.ts';
import { formatBytes } from './units.ts';

/** What a component's capture came to, for a table. */
export const outcomeWord = ({ outcome, incomplete }: ComponentManifest): string =>
  incomplete === undefined ? outcome : 'incomplete';

/** One sentence for each component that lacks something. */
export const incompleteSentences = (components: readonly ComponentManifest[]): readonly string[] =>
  components.flatMap((component) => {
    const lacking = describeIncomplete(component);
    return lacking === undefined ? [] : [`${component.name} is incomplete: ${lacking}`];
  });

/** One line for each part of the stack that is in no component. */
export function notCapturedLines(parts: readonly NotCaptured[]): readonly string[] {
  return parts.map(({ subject, reason, sizeBytes }) => {
    const size = sizeBytes === undefined ? '' : `, ${formatBytes(sizeBytes)}`;
    return `Not captured: ${subject} (${reason}${size})`;
  });
}
