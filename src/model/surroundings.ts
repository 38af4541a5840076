import type { ComposeRecord, RecordedNetwork, RecordedVolume } from './manifest.ts';
import { shellWord } from './shell-word.ts';

/** Compose puts this label on the volumes that it creates. */
const composeLabel = 'com.docker.compose.project';
/** The Engine gives such a name to a volume that no one has named. */
const anonymous = /^[0-9a-f]{64}$/;

/** The recorded volumes that Compose expects to be there, once for each service that has one. */
export const externalVolumes = (
  recorded: Pick<ComposeRecord, 'volumes'> | undefined,
): readonly RecordedVolume[] =>
  (recorded?.volumes ?? []).filter(
    ({ name, labels }) => labels[composeLabel] === undefined && !anonymous.test(name),
  );

/** The shell line that creates a network. @param recorded what is known of it */
export function networkLine(name: string, recorded: RecordedNetwork | undefined): string {
  if (recorded === undefined) return `docker network create ${shellWord(name)}`;
  const { driver, internal, attachable, ipv6, options, labels, ranges } = recorded;
  const pairs = (flag: string, entries: Readonly<Record<string, string>>): string[] =>
    Object.entries(entries).flatMap(([key, value]) => [flag, `${key}=${value}`]);
  return [
    ...['docker', 'network', 'create'],
    ...(driver === 'bridge' ? [] : ['--driver', driver]),
    ...ranges.flatMap(({ subnet, gateway, ipRange }) => [
      ...['--subnet', subnet],
      ...(gateway === undefined ? [] : ['--gateway', gateway]),
      ...(ipRange === undefined ? [] : ['--ip-range', ipRange]),
    ]),
    ...(internal ? ['--internal'] : []),
    ...(attachable ? ['--attachable'] : []),
    ...(ipv6 ? ['--ipv6'] : []),
    ...pairs('--opt', options),
    ...pairs('--label', labels),
    name,
  ]
    .map(shellWord)
    .join(' ');
}

/** The shell line that creates a volume. Its options may hold passwords and are not recorded. */
export function volumeLine(name: string, recorded: RecordedVolume | undefined): string {
  const driver =
    recorded === undefined || recorded.driver === 'local' ? '' : `--driver ${shellWord(recorded.driver)} `;
  const options = recorded?.hasOptions === true ? '--opt KEY=VALUE ' : '';
  return `docker volume create ${driver}${options}${shellWord(name)}`;
}

/** Paths that a machine has by itself, or does without. */
const ofMachine = /^\/(etc|usr|lib|lib64|proc|sys|dev|run|var\/run)(\/|$)/;

/** Whether a path belongs to the machine and not to a project. */
export const isOfMachine = (path: string): boolean => path === '/' || ofMachine.test(path);

/** The shell lines that create what Compose expects to be there and does not create, and directories with their owners. */
export function surroundingLines(recorded: ComposeRecord): readonly string[] {
  const { networks = [], binds = [] } = recorded;
  const volumes = new Map(externalVolumes(recorded).map((volume) => [volume.name, volume]));
  return [
    ...networks.map((network) => networkLine(network.name, network)),
    ...[...volumes.values()].map((volume) => volumeLine(volume.name, volume)),
    ...binds
      .filter(({ kind, path }) => kind === 'directory' && !isOfMachine(path))
      .map(
        ({ path, uid, gid, mode }) =>
          `install -d -o ${uid} -g ${gid} -m ${mode.toString(8)} ${shellWord(path)}`,
      ),
  ];
}
