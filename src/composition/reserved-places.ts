import { dirname } from 'node:path';
import type { ReservedPlace } from '../components/wrappers/kept-apart.ts';
import type { Settings } from '../settings/load.ts';
import type { Environment } from '../model/environment.ts';
import { exportedKits } from './kit-record.ts';

/** Places that only one run has. */
export interface RunPlaces {
  /** Where `backup --output-dir` writes. */
  readonly outputDir?: string | undefined;
  /** What `restore --backup-file` reads. */
  readonly backupFile?: string | undefined;
}

/** The places of this machine that tars needs itself. */
export async function placesOfTars(
  settings: Settings,
  env: Environment,
  { outputDir, backupFile }: RunPlaces = {},
): Promise<readonly ReservedPlace[]> {
  const { repository, state_dir: stateDir, scratch_dir: scratchDir, settingsPath, components } = settings;
  const identities = Object.values(components).flatMap(
    ({ configuration }) => configuration?.identityFile ?? [],
  );
  const keys = [repository.password_file, env['TARS_PASSWORD_FILE']].filter((path) => path !== undefined);
  const list = (
    owner: ReservedPlace['owner'],
    what: string,
    paths: readonly (string | undefined)[],
  ): ReservedPlace[] =>
    [...new Set(paths)].flatMap((path) => (path === undefined || path === '' ? [] : [{ path, what, owner }]));
  return [
    ...list('tars', 'the repository', [repository.path]),
    ...list('tars', 'the state directory', [stateDir]),
    ...list('shared', 'the scratch directory', [scratchDir]),
    ...list('tars', 'the key file', keys),
    ...list('tars', 'the age identity', identities),
    ...list('tars', 'the recovery kit', await exportedKits(stateDir)),
    ...list('tars', 'the configuration of tars', [settingsPath]),
    ...list('shared', 'the directory of the archives', [outputDir]),
    ...list('shared', 'the directory of the archive', [backupFile && dirname(backupFile)]),
  ];
}

/** The places on this machine that the other components capture, as far as `tars.yaml` says. */
export function placesOfOthers(name: string, components: Settings['components']): readonly ReservedPlace[] {
  const names = Object.keys(components);
  return Object.entries(components).flatMap(([other, component]) =>
    other === name
      ? []
      : component.places.paths.map(({ path }) => ({
          ...{ path, what: `a place of the component ${other}`, owner: 'component' as const },
          givesWay: names.indexOf(other) > names.indexOf(name),
        })),
  );
}
