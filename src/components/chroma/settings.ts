import { z } from 'zod';
import type { SettingsSlot } from '../../ports/kind.ts';
import { commonSettings } from '../settings-parts.ts';

const schema = (local: (path: string) => string) =>
  z.strictObject({
    kind: z.literal('chroma'),
    url: z.string().optional().describe('Such as http://127.0.0.1:8000'),
    headers: z.record(z.string(), z.string()).default({}),
    path: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The persist directory, which holds chroma.sqlite3; gives the safest capture.'),
    tenants: z.array(z.string()).optional().describe('The tenants to capture; only for captures over HTTP.'),
    ...commonSettings,
  });

/** What `tars.yaml` says of one component of the kind. */
export type ChromaSettings = z.infer<ReturnType<typeof schema>>;

export const settings: SettingsSlot<ChromaSettings> = {
  schema,
  secrets: ({ headers }) => ({ headers: Object.values(headers) }),
  forOtherProject: (chroma) => ({ ...chroma, url: undefined, path: undefined }),
};
