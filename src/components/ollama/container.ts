import { z } from 'zod';
import type { ContainerProgram } from '../../model/container-programs.ts';
import type { ContainerSlot } from '../../ports/kind.ts';
import type { OllamaSettings } from './settings.ts';

const tags = z.object({ models: z.array(z.unknown()).nullable() });

/** A command without the program: the image's own entrypoint is the program. */
function programRole({ name, args }: ContainerProgram): 'server' | 'client' | undefined {
  const [verb = ''] = name === 'ollama' ? args : [name];
  if (verb === 'serve') return 'server';
  return /^(pull|run|create|list|ls|show|cp|rm|ps|push|stop)$/.test(verb) ? 'client' : undefined;
}

export const container: ContainerSlot<OllamaSettings> = {
  recognition: {
    title: 'Ollama',
    labels: ['ollama'],
    images: /^ollama$/,
    port: 11434,
    isPortTelling: true,
    answers: async (address, ask) => tags.safeParse(await ask.json(address, '/api/tags')).success,
    programRole,
    expectedDirectory: ({ environment }) => environment['OLLAMA_MODELS'] ?? '/root/.ollama/models',
    riskIfUnmounted: 'NOT CAPTURED',
    proposal: () => ['models: list # none | list (names to pull again) | all'],
  },
  access: {
    through: 'files',
    givenAddress: ({ url }) => url,
  },
};
