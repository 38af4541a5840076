import { z } from 'zod';

const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()]);

const words = z.union([z.string(), z.array(z.string()), z.null()]);

const listOrMap = z.union([z.array(z.string()), z.record(z.string(), scalar), z.null()]);

const fileResource = z.object({ file: z.string().optional() }).nullable();

const named = z
  .object({ name: z.string().optional(), external: z.union([z.boolean(), z.object({ name: z.string() })]) })
  .partial()
  .nullable();

const serviceSchema = z.object({
  image: z.string().optional(),
  container_name: z.string().optional(),
  build: z.union([z.string(), z.object({ context: z.string().optional() })]).optional(),
  labels: listOrMap.optional(),
  environment: listOrMap.optional(),
  env_file: z.union([z.string(), z.array(z.union([z.string(), z.object({ path: z.string() })]))]).optional(),
  expose: z.array(z.union([z.string(), z.number()])).optional(),
  ports: z
    .array(z.union([z.string(), z.number(), z.object({ target: z.union([z.string(), z.number()]) })]))
    .optional(),
  entrypoint: words.optional(),
  command: words.optional(),
  depends_on: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).optional(),
  extends: z.union([z.string(), z.object({ file: z.string().optional() })]).optional(),
  volumes: z
    .array(
      z.union([
        z.string(),
        z.object({
          ...{ type: z.string(), source: z.string().optional(), target: z.string() },
          read_only: z.boolean().optional(),
        }),
      ]),
    )
    .optional(),
});

/** One entry of `include:`. */
export const includeSchema = z.union([
  z.string(),
  z.object({
    path: z.union([z.string(), z.array(z.string())]),
    env_file: z.union([z.string(), z.array(z.string())]).optional(),
    project_directory: z.string().optional(),
  }),
]);

/** See {@link includeSchema}. */
export type IncludeEntry = z.infer<typeof includeSchema>;

/** What tars looks at in a Compose file; whatever else it holds is passed over. */
export const fileSchema = z.object({
  name: z.string().optional(),
  services: z.record(z.string(), serviceSchema.nullable()).nullish(),
  volumes: z.record(z.string(), named).nullish(),
  configs: z.record(z.string(), fileResource).nullish(),
  secrets: z.record(z.string(), fileResource).nullish(),
  include: z.array(includeSchema).nullish(),
});

/** One Compose file, before the others are laid over it. */
export type ComposeFile = z.infer<typeof fileSchema>;

/** What a Compose file says of one service. */
export type ServiceBody = z.infer<typeof serviceSchema>;

/** A list, or a map whose values may be missing. */
export type ListOrMap = z.infer<typeof listOrMap>;

/** One word or several, as Compose allows at many places. */
export const listOf = (value: string | readonly string[] | null | undefined): readonly string[] =>
  value === undefined || value === null ? [] : typeof value === 'string' ? [value] : value;

/** The environment files of a service, as the file names them. */
export const envFilesOf = ({ env_file: files }: ServiceBody): readonly string[] =>
  typeof files === 'string'
    ? [files]
    : (files ?? []).map((file) => (typeof file === 'string' ? file : file.path));
