import { z } from 'zod';
import type { ContainerSlot } from '../../ports/kind.ts';
import type { OllamaSettings } from './settings.ts';

const tags = z.object({ models: z.array(z.unknown()).nullable() });

export const container: ContainerSlot<OllamaSettings> = {
  recognition: {
    title: 'Ollama',
    labels: ['ollama'],
    images: /^ollama$/,
    port: 11434,
    isPortTelling: true,
    answers: async (address, ask) => tags.safeParse(await ask.json(address, '/api/tags')).success,
    expectedDirectory: ({ environment }) => environment['OLLAMA_MODELS'] ?? '/root/.ollama/models',
    riskIfUnmounted: 'NOT CAPTURED',
    proposal: () => ['models: list # none | list (names to pull again) | all'],
  },
  access: {
    through: 'files',
    givenAddress: ({ url }) => url,
  },
};
