import { z } from 'zod';

/** Settings that components of every kind have. */
export const commonSettings = {
  service: z.string().optional().describe('The service, under services, that runs this store.'),
};

export const portSetting = z.int().min(1).max(65_535);

/** @param local see `SettingsSlot.schema` */
export const passwordSettings = (
  local: (path: string) => string,
): { readonly password: z.ZodOptional<z.ZodString>; readonly password_file: z.ZodOptional<z.ZodString> } => ({
  password: z.string().optional().describe('Prefer password_file, or ${VARIABLE} from the environment.'),
  password_file: z
    .string()
    .overwrite(local)
    .optional()
    .describe('A file that holds the password and nothing else.'),
});
