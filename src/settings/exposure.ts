import { readableByAll } from '../disk/exposure.ts';
import type { Settings } from './load.ts';
import type { Environment } from '../model/environment.ts';

/** Files with a secret in them that every user of the machine can read: `tars.yaml` itself, or those it names. */
export async function exposedFiles(settings: Settings, env: Environment): Promise<readonly string[]> {
  const { settingsPath, holdsSecrets, repository, components } = settings;
  const named = Object.values(components).flatMap(({ secrets }) => [
    secrets.passwordFile,
    secrets.identityFile,
  ]);
  const files = [
    holdsSecrets ? settingsPath : undefined,
    env['TARS_PASSWORD_FILE'],
    repository.password_file,
    ...named,
  ].filter((file) => file !== undefined);
  const exposed = await Promise.all(files.map(readableByAll));
  return [...new Set(files.filter((_, position) => exposed[position] === true))];
}
