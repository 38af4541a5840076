import { z } from 'zod';
import { ConfigurationError } from '../../model/errors.ts';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('ollama'),
    path: z
      .string()
      .overwrite(local)
      .optional()
      .describe(
        'The model store, with manifests/ and blobs/ in it; with `docker`, tars finds it through the container.',
      ),
    url: z.string().optional(),
    models: z.enum(['none', 'list', 'all']).default('list'),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type OllamaSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<OllamaSettings> = {
  schema,
  complete(ollama, { label, hasDocker }) {
    if (ollama.path !== undefined || hasDocker) return ollama;
    throw new ConfigurationError(`${label} has no path`, {
      hint: 'Give the directory of the model store, the one with manifests/ and blobs/ in it.',
    });
  },
  forOtherProject: (ollama) => ({ ...ollama, url: undefined, path: undefined }),
};
