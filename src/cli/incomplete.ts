import type { ComponentManifest } from '../model/manifest.ts';
import { counted } from '../model/plural.ts';

/** So many entries are named for a person; the manifest names more. */
const namedMax = 10;

/** What a component's capture came to, for a table. */
export const outcomeWord = ({ outcome, incomplete }: ComponentManifest): string =>
  incomplete === undefined ? outcome : 'incomplete';

/** One sentence for each component that lacks something. */
export const incompleteSentences = (components: readonly ComponentManifest[]): readonly string[] =>
  components.flatMap(({ name, incomplete }) => {
    if (incomplete === undefined) return [];
    const { count, named } = incomplete;
    const shown = named.slice(0, namedMax).map(({ path, reason }) => `${path} (${reason})`);
    const more = count > shown.length ? ` and ${count - shown.length} more` : '';
    return [
      `${name} is not complete: ${counted(count, 'entry', 'entries')} could not be captured: ${shown.join(', ')}${more}`,
    ];
  });
