import { stat } from 'node:fs/promises';
import type { Settings } from './load.ts';

/** Files with a secret in them that every user of the machine can read: `tars.yaml` itself, or those it names. */
export async function exposedFiles(settings: Settings): Promise<readonly string[]> {
  const { settingsPath, holdsSecrets, repository, components } = settings;
  const named = Object.values(components).flatMap((component) => [
    'password_file' in component ? component.password_file : undefined,
    'age_identity_file' in component ? component.age_identity_file : undefined,
  ]);
  const files = [holdsSecrets ? settingsPath : undefined, repository.password_file, ...named].filter(
    (file) => file !== undefined,
  );
  const exposed = await Promise.all(files.map(readableByAll));
  return [...new Set(files.filter((_, position) => exposed[position] === true))];
}

/** A file that is not there is somebody else's finding. */
async function readableByAll(file: string): Promise<boolean> {
  return stat(file).then(
    ({ mode }) => (mode & 0o004) !== 0,
    () => false,
  );
}
