import { kinds } from '../components/registry.ts';
import type { Environment } from '../model/environment.ts';
import type { Kinds } from '../ports/kind.ts';
import * as schema from '../settings/json-schema.ts';
import * as load from '../settings/load.ts';

/**
 * See {@link load.loadSettings}.
 * @param known the kinds of stores; those of tars by default
 */
export const loadSettings = (
  explicit: string | undefined,
  env: Environment,
  known: Kinds = kinds,
): Promise<load.Settings> => load.loadSettings(explicit, env, known);

/** See {@link load.parseSettings}. */
export const parseSettings = (
  text: string,
  path: string,
  env: Environment,
  known: Kinds = kinds,
): load.Settings => load.parseSettings(text, path, env, known);

/** See {@link schema.settingsJsonSchema}. */
export const settingsJsonSchema = (known: Kinds = kinds): ReturnType<typeof schema.settingsJsonSchema> =>
  schema.settingsJsonSchema(known);
