import type { RecoveryStep } from '../../model/recovery-kit.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';
import { placeOf } from '../recovery-places.ts';
import type { ChromaSettings } from './settings.ts';

/** Chroma starts on its persist directory; an export of records has no way back without its API. */
function step(part: RecoveryPart): RecoveryStep {
  const { component } = part;
  const title = `Chroma (${component.name})`;
  if (!component.artifacts.some(({ path }) => path.startsWith(`${component.name}/persist/`))) {
    const text = `The snapshots hold the records as JSON lines, under ${component.name}/export: one file a collection, whose first line describes it. Add them through Chroma's API.`;
    return { title, text: [text], commands: [] };
  }
  const { text, fill } = placeOf(part);
  return { title, text: [text], commands: fill(`${component.name}/persist/.`) };
}

export const recovery: RecoverySlot<ChromaSettings> = {
  phase: 'stopped',
  namesArtifacts: true,
  home: ({ service, path: directory }) => ({ service, directory }),
  step,
};
