import {
  describeIncomplete,
  missingFrom,
  type ComponentManifest,
  type Manifest,
  type NotCaptured,
} from '../../model/manifest.ts';
import { counted } from '../../model/plural.ts';
import { formatBytes } from './units.ts';
import { stringify } from 'yaml';

/** What a component's capture came to, for a table. */
export const outcomeWord = ({ outcome, incomplete }: ComponentManifest): string =>
  incomplete === undefined ? outcome : 'incomplete';

/** What a snapshot came to: `complete` is said only of one that a restore brings the whole stack back from. */
export function wholeWord(manifest: Pick<Manifest, 'outcome' | 'notCaptured'>): string {
  const missing = missingFrom(manifest).length;
  return missing === 0 ? manifest.outcome : `${manifest.outcome}, without ${counted(missing, 'place')}`;
}

/** One sentence for each component that lacks something. */
export const incompleteSentences = (components: readonly ComponentManifest[]): readonly string[] =>
  components.flatMap((component) => {
    const lacking = describeIncomplete(component);
    return lacking === undefined ? [] : [`${component.name} is incomplete: ${lacking}`];
  });

/** One line for each part of the stack that is in no component; what need not come back stands last. */
export function notCapturedLines(
  parts: readonly Pick<NotCaptured, 'subject' | 'reason' | 'sizeBytes' | 'status'>[],
): readonly string[] {
  const isLeftOut = ({ status }: Pick<NotCaptured, 'status'>): boolean => status === 'left-out';
  return [...parts.filter((part) => !isLeftOut(part)), ...parts.filter(isLeftOut)].map((part) => {
    const { subject, reason, sizeBytes } = part;
    const size = sizeBytes === undefined ? '' : `, ${formatBytes(sizeBytes)}`;
    return `${isLeftOut(part) ? 'Left out' : 'Not captured'}: ${subject} (${reason}${size})`;
  });
}

/** One sentence for each place that a restore would leave empty, with the line that says that it may. */
export const missingSentences = (parts: readonly NotCaptured[]): readonly string[] =>
  parts.map(
    ({ subject, reason }) =>
      `${subject} is not in this snapshot: ${reason}. If a restore need not bring it back, add it under leave_out: in tars.yaml: ${leaveOutLine(subject)}`,
  );

/** As it stands below `leave_out:`. */
export const leaveOutLine = (subject: string): string => `${stringify(subject).trimEnd()}: the reason`;
