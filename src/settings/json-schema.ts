import { z } from 'zod';
import type { Kinds } from '../ports/kind.ts';
import { settingsSchema } from './schema.ts';

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Draft 7, which every editor reads. */
const target = 'draft-7';

/**
 * The JSON Schema of `tars.yaml` as it is written: before `${NAME}` is replaced, with what the loader fills in left
 * out. A component that is called like a kind is taken for one of that kind.
 */
export function settingsJsonSchema(kinds: Kinds): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(
    settingsSchema(kinds, (path) => path),
    {
      target,
      io: 'input',
      override: ({ jsonSchema }) => {
        orVariable(jsonSchema);
        if (jsonSchema.pattern === undefined) return;
        jsonSchema.pattern = `${jsonSchema.pattern}|\\$\\{`;
        // zod's name for a pattern, which no validator knows as a format.
        delete jsonSchema.format;
      },
    },
  );
  const { components, services, leave_out: leaveOut, ...properties } = membersOf(schema);
  return {
    ...($schema === undefined ? {} : { $schema }),
    title: 'tars.yaml',
    description: 'What tars backs up, where it stores it, and how services are stopped and started.',
    ...schema,
    properties: {
      ...properties,
      leave_out: orNothing(leaveOut),
      services: orNothing(services),
      components: orNothing(withNames(components, kinds)),
      files: { description: 'Short for a component named files.', ...pathsOf(components) },
    },
    patternProperties: {
      '^x-': { description: 'It has no meaning; aliases can refer to its content.' },
    },
    required: ['version', 'stack', 'repository'],
  };
}

/** A number or a truth value may be the text of a variable as well. */
function orVariable(schema: JsonSchema): void {
  if (!['integer', 'number', 'boolean'].includes(String(schema.type))) return;
  const { description, default: fallback, ...own } = schema;
  for (const key of Object.keys(own)) Reflect.deleteProperty(schema, key);
  schema.anyOf = [own, { type: 'string', pattern: '\\$\\{' }];
  if (description !== undefined) schema.description = description;
  if (fallback !== undefined) schema.default = fallback;
}

/** What the file of the package is called, for the first line of a `tars.yaml`; editors take the address as it is. */
export const schemaLine = `# yaml-language-server: $schema=${new URL('../../docs/tars.schema.json', import.meta.url).href}`;

/** A section whose every line is still a comment is null in YAML. */
const orNothing = (schema: JsonSchema | undefined): JsonSchema => ({
  anyOf: [{ type: 'null' }, schema ?? {}],
});

const membersOf = ({ properties = {} }: JsonSchema): Record<string, JsonSchema> =>
  properties as Record<string, JsonSchema>;

/** Where the name says the kind, `kind:` may be left out, and everything else too. */
function withNames(components: JsonSchema | undefined, kinds: Kinds): JsonSchema {
  const named = kinds.map(({ name: kind }) => {
    const { required = [], ...schema } = variantOf(components, kind);
    const needed = required.filter((key) => key !== 'kind');
    const alone = needed.length === 0 ? { ...schema, type: ['object', 'null'] as never } : schema;
    return [kind, needed.length === 0 ? alone : { ...schema, required: needed }];
  });
  return { ...components, properties: Object.fromEntries(named) as Record<string, JsonSchema> };
}

function variantOf(components: JsonSchema | undefined, kind: string): JsonSchema {
  const any = components?.additionalProperties as JsonSchema | undefined;
  const variants = any?.oneOf ?? any?.anyOf ?? [];
  const found = variants.find((variant) => membersOf(variant)['kind']?.const === kind);
  if (found === undefined) throw new Error(`The schema has no component of kind ${kind}`);
  return found;
}

const pathsOf = (components: JsonSchema | undefined): JsonSchema =>
  membersOf(variantOf(components, 'files'))['paths'] ?? {};
