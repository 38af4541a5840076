// Writes the JSON Schema of tars.yaml, which the package ships for editors.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { settingsJsonSchema } from '../src/composition/settings.ts';

const path = fileURLToPath(new URL('../docs/tars.schema.json', import.meta.url));
const text = JSON.stringify(settingsJsonSchema());
await writeFile(path, await format(text, { ...(await resolveConfig(path)), filepath: path }));
