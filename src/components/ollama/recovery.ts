import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';
import { placeOf } from '../recovery-places.ts';
import type { OllamaSettings } from './settings.ts';

const ollamaFacts = z.object({ models: z.array(z.object({ name: z.string(), stored: z.string() })) });

/** Models go back as files; those that are known by name only are pulled. */
function step(part: RecoveryPart): RecoveryStep {
  const { component } = part;
  const { models } = ollamaFacts.parse(component.facts);
  const absent = models.filter(({ stored }) => stored !== 'model').map(({ name }) => name);
  const whole = models.length > absent.length;
  return {
    title: `Ollama (${component.name})`,
    text:
      models.length === 0
        ? ['There is nothing to restore: it had no models when the snapshot was taken.']
        : whole
          ? [placeOf(part).text]
          : [],
    commands: whole ? placeOf(part).fill(`${component.name}/.`) : [],
    then:
      absent.length === 0
        ? []
        : [
            `These models are not in the snapshots; once Ollama runs, pull them with ollama pull: ${absent.join(', ')}`,
          ],
  };
}

export const recovery: RecoverySlot<OllamaSettings> = {
  phase: 'stopped',
  namesArtifacts: true,
  home: ({ service, path: directory }) => ({ service, directory }),
  step,
};
