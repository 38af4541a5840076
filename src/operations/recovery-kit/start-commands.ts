import { shellWord } from '../../model/shell-word.ts';

/** A service of plain processes, as far as starting it by hand goes. */
interface StartableService {
  readonly depends_on?: readonly string[] | undefined;
  readonly start?: readonly string[] | undefined;
  readonly systemd_unit?: string | undefined;
  readonly command?: readonly string[] | undefined;
  readonly log_file?: string | undefined;
}

/**
 * Shell commands that start the services, each after those it depends on.
 * @param running services that run already when the stack is started
 */
export function startCommands(
  services: Readonly<Record<string, StartableService>>,
  running: ReadonlySet<string | undefined>,
): readonly string[] {
  const ordered = new Set<string>();
  const visit = (name: string, path: ReadonlySet<string>): void => {
    if (path.has(name)) return;
    for (const needed of services[name]?.depends_on ?? []) visit(needed, new Set([...path, name]));
    ordered.add(name);
  };
  for (const name of Object.keys(services)) visit(name, new Set());
  return [...ordered]
    .filter((name) => !running.has(name))
    .flatMap((name) => {
      const service = services[name];
      return service === undefined ? [] : startCommand(service);
    });
}

function startCommand({
  start,
  systemd_unit: unit,
  command,
  log_file: log,
}: StartableService): readonly string[] {
  const words = (argv: readonly string[]): string => argv.map(shellWord).join(' ');
  if (start !== undefined) return [words(start)];
  if (unit !== undefined) return [words(['systemctl', 'start', unit])];
  if (command === undefined) return [];
  return [`nohup ${words(command)} >> ${shellWord(log ?? '/dev/null')} 2>&1 < /dev/null &`];
}
