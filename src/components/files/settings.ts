import { z } from 'zod';
import { ConfigurationError } from '../../model/errors.ts';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('files'),
    paths: z.array(z.string().overwrite(local)).min(1).optional().describe('Directories on this machine.'),
    inside: z
      .string()
      .startsWith('/')
      .optional()
      .describe('With `docker`, instead of paths: a directory in a mount of the container of `service`.'),
    exclude: z
      .array(z.string())
      .default([])
      .describe(
        'What to leave out of each directory: patterns as in a .gitignore there. `cache` matches at any depth, `/cache` only at the top, `cache/` only directories, `*.tmp` and `**/x` as usual; `!keep.tmp` includes that name again. A pattern that matches nothing is reported.',
      ),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type FilesSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<FilesSettings> = {
  schema,
  complete(files, { label, hasDocker }) {
    requirePlace(files, label, hasDocker);
    return files;
  },
  forOtherProject: (files) => (files.inside === undefined ? undefined : files),
};

function requirePlace({ paths, inside, service }: FilesSettings, label: string, hasDocker: boolean): void {
  if ((paths === undefined) === (inside === undefined)) {
    throw new ConfigurationError(`${label} needs either paths or inside`, {
      hint: 'Give paths: of this machine, or service: and inside: of a container.',
    });
  }
  if (inside !== undefined && (service === undefined || !hasDocker)) {
    throw new ConfigurationError(`${label} has inside: without a container`, {
      hint: 'Add service:, and docker: to tars.yaml, or give paths: instead.',
    });
  }
}
