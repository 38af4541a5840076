import { z } from 'zod';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('config'),
    files: z.array(z.string().overwrite(local)).min(1),
    age_identity_file: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The age identity that opens sealed configuration for a restore.'),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type ConfigSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<ConfigSettings> = {
  schema,
  secrets: ({ age_identity_file: identityFile }) => ({ identityFile }),
  // The files are the first project's.
  forOtherProject: () => undefined,
  configuration: (config) => ({
    files: config.files,
    identityFile: config.age_identity_file,
    with: (file) => ({ ...config, files: [...config.files, file] }),
  }),
};
