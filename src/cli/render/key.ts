import type { Environment } from '../../model/environment.ts';
import { shortId } from '../../model/snapshot.ts';
import type { RepositoryKey } from '../../ports/keys.ts';
import type { Settings } from '../../settings/load.ts';
import { formatTable } from './columns.ts';

/** The keys of a repository. */
export function renderKeys(keys: readonly RepositoryKey[]): string {
  const rows = keys.map(({ id, isCurrent, created, username, hostname }) => [
    shortId(id),
    isCurrent ? 'yes' : '',
    created?.toISOString().replace('T', ' ').slice(0, 19) ?? '-',
    username,
    hostname,
  ]);
  return formatTable(['ID', 'IN USE', 'CREATED (UTC)', 'USER', 'HOST'], rows);
}

/** What the operator must do so that the next run opens the repository. */
export function whereItIsKept(
  { password_file: passwordFile, password_command: passwordCommand }: Settings['repository'],
  env: Environment,
  newPasswordFile: string | undefined,
): string {
  const variable = ['TARS_PASSWORD', 'TARS_PASSWORD_FILE', 'TARS_PASSWORD_COMMAND'].find((name) => env[name]);
  const until = 'Until then tars cannot open the repository.';
  if (variable !== undefined) return `Now set ${variable} to the new password. ${until}`;
  if (passwordCommand !== undefined) {
    return `Now change repository.password_command in tars.yaml so that it prints the new password.\n${until}`;
  }
  const file = passwordFile ?? '';
  const how =
    newPasswordFile === undefined
      ? `Now write the new password into ${file}, mode 0600.`
      : `Now copy it to the path in tars.yaml:\n  install -m 600 ${newPasswordFile} ${file}`;
  return `${how}\n${until} Keep a copy away from this machine, too.`;
}
