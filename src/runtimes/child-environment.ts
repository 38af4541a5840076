/** Environment that hold a repository's password; nothing we start needs to see it. */
const secretVariables = /^(TARS_PASSWORD|RESTIC_PASSWORD)/;

/** Our environment for a program we start: everything but the repository's password. */
export function childEnvironment(additions: Readonly<Record<string, string>> = {}): Record<string, string> {
  const own = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !secretVariables.test(entry[0]),
  );
  return { ...Object.fromEntries(own), ...additions };
}
