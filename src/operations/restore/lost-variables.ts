import { z } from 'zod';
import type { ComponentManifest, Manifest } from '../../model/manifest.ts';

/** Of the variables that only a shell had, those whose values are not in the snapshot either. */
export function lostVariables(
  compose: Manifest['compose'],
  components: readonly ComponentManifest[],
): readonly string[] {
  const kept = new Set(components.flatMap(derivedNames));
  return (compose?.shellVariables ?? []).filter((name) => !kept.has(name));
}

/** What a configuration's capture says of the file that it made out of what ran. */
function derivedNames({ facts: { derived } }: ComponentManifest): readonly string[] {
  const parsed = derivedSchema.safeParse(derived);
  return parsed.success ? parsed.data.names : [];
}

const derivedSchema = z.object({ names: z.array(z.string()) });

/** Their values are in no file that is captured. */
export const shellVariablesWarning = (names: readonly string[]): string =>
  `The Compose files use ${names.join(', ')}, which only a shell defined. A restore onto an empty machine cannot create the containers as they are. Put ${names.length === 1 ? 'it' : 'them'} into .env beside the Compose file, and capture that file`;
