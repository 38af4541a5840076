import { describeIncomplete, type ComponentManifest } from '../model/manifest.ts';

/** What a component's capture came to, for a table. */
export const outcomeWord = ({ outcome, incomplete }: ComponentManifest): string =>
  incomplete === undefined ? outcome : 'incomplete';

/** One sentence for each component that lacks something. */
export const incompleteSentences = (components: readonly ComponentManifest[]): readonly string[] =>
  components.flatMap((component) => {
    const lacking = describeIncomplete(component);
    return lacking === undefined ? [] : [`${component.name} is not complete: ${lacking}`];
  });
