import { throwIfAborted } from '../../model/abort.ts';
import { readableByAll } from '../../disk/exposure.ts';
import { decodeText, readConfigFiles } from './files.ts';
import { redactFile } from './redact/index.ts';

/** Those of the configuration files that hold a secret and that every user of the machine can read. */
export async function exposedConfigFiles(
  paths: readonly string[],
  knownSecrets: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const exposed: string[] = [];
  for (const path of new Set(paths)) {
    if ((await readableByAll(path)) && (await holdsSecret(path, knownSecrets, signal))) exposed.push(path);
  }
  return exposed;
}

/** The configuration files as text; those that cannot be read are left out. */
export async function configurationTexts(
  paths: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const read = await Promise.all(paths.map((path) => readConfigFiles([path], signal).catch(() => [])));
  throwIfAborted(signal);
  return read.flat().map(({ bytes }) => decodeText(bytes).text);
}

/** Whether the value of a variable is one that is never shown. */
export const looksSecret = (name: string, value: string): boolean =>
  redactFile('variables.env', `${name}=${JSON.stringify(value)}\n`, []).secrets.length > 0;

/** A file that cannot be read, or is none, is somebody else's finding. */
async function holdsSecret(path: string, known: readonly string[], signal: AbortSignal): Promise<boolean> {
  const files = await readConfigFiles([path], signal).catch(() => []);
  throwIfAborted(signal);
  return files.some(({ bytes }) => redactFile(path, decodeText(bytes).text, known).secrets.length > 0);
}
