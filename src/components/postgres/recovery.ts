import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import { shellWord, withinShellQuotes } from '../../model/shell-word.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';
import { ownFilesText, serviceOf } from '../recovery-places.ts';
import type { PostgresSettings } from './settings.ts';

const postgresFacts = z.object({
  serverFiles: z.array(z.object({ path: z.string(), artifact: z.string() })).optional(),
});

/** Roles and databases go into a running server, through its own programs. */
function step(part: RecoveryPart, settings: PostgresSettings | undefined): RecoveryStep {
  const { component, compose } = part;
  const dumps = component.artifacts.map(({ path }) => path).filter((path) => path.endsWith('.dump'));
  const databases = dumps.map((path) => ({
    path,
    name: path.slice(component.name.length + 1, -'.dump'.length),
  }));
  const globals = `${component.name}/globals.sql`;
  const major = component.serverVersion?.split('.')[0] ?? '';
  const text =
    `Restore into a new server of version ${major} or newer. Ignore the error that a role already exists. Afterwards, ` +
    'the roles have the passwords of the snapshot.';
  const title = `PostgreSQL (${component.name})`;
  const { serverFiles = [] } = postgresFacts.parse(component.facts);
  const then = serverFiles.length === 0 ? [] : [ownFilesText(serverFiles, 'Its settings and access rules')];
  if (compose !== undefined) {
    const service = shellWord(serviceOf(part));
    // What is pasted after a command must not become its input.
    const run = (command: string, file = '/dev/null'): string =>
      `compose exec -T ${service} sh -c '${command}' < ${shellWord(file)}`;
    const user = '-U "${POSTGRES_USER:-postgres}"';
    const commands = databases.flatMap(({ name, path }) => [
      `${run(`createdb ${user} -T template0 ${quotedInQuotes(name)}`)} || true`,
      run(`pg_restore ${user} -d ${quotedInQuotes(name)} --exit-on-error`, path),
    ]);
    // While it initialises, the image's server is not on TCP yet.
    const ready = `while ! ${run(`pg_isready -h 127.0.0.1 ${user}`)}; do sleep 1; done`;
    const started = [`compose up -d ${service}`, ready];
    return {
      title,
      text: [text],
      commands: [...started, run(`psql ${user} -d postgres`, globals), ...commands],
      then,
    };
  }
  return {
    title,
    text: [`${text} Set PGPASSWORD, or type the password when asked.`],
    commands: [
      `export PGHOST=${shellWord(settings?.host ?? '127.0.0.1')} PGPORT=${settings?.port ?? 5432} PGUSER=${shellWord(settings?.user ?? 'postgres')}`,
      `psql -d postgres -f ${shellWord(globals)}`,
      ...databases.map(
        ({ name, path }) => `pg_restore -d postgres${creation(name)} --exit-on-error ${shellWord(path)}`,
      ),
    ],
    then,
  };
}

/** `postgres` itself is there already. */
const creation = (name: string): string => (name === 'postgres' ? '' : ' --create');

/** A word inside the single quotes of `sh -c '…'`. */
const quotedInQuotes = (value: string): string => {
  const word = shellWord(value);
  return word === value ? word : withinShellQuotes(word);
};

export const recovery: RecoverySlot<PostgresSettings> = {
  phase: 'running',
  namesArtifacts: true,
  home: ({ service }) => ({ service }),
  step,
};
