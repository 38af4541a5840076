import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import { shellWord } from '../../model/shell-word.ts';
import { placeOf, serviceOf, type Part } from './places.ts';
import { redisWord } from '../../model/redis-words.ts';

const redisFacts = z.object({
  users: z.object({ file: z.string(), artifact: z.string() }).optional(),
  persistence: z.object({ dbFilename: z.string(), appendDirName: z.string(), appendFilename: z.string() }),
});

/**
 * An append-only server ignores dump.rdb, and overwrites it when it stops. So the snapshot is given as the base of its
 * log too: which of both the server's configuration asks for then makes no difference
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/, "Append-only file").
 */
export function redisStep(part: Part): RecoveryStep {
  const { component } = part;
  const { persistence, users } = redisFacts.parse(component.facts);
  const { text, fill } = placeOf(part);
  const folder = `${component.name}/data`;
  const at = (path: string): string => shellWord(`${folder}/${path}`);
  const dump = shellWord(`${component.name}/dump.rdb`);
  const { dbFilename, appendDirName: log, appendFilename } = persistence;
  const base = `${appendFilename}.1.base.rdb`;
  // Such as `redis 7.0.15`. Since 7.0 the log is a directory.
  const hasLogDirectory = Number(/\d+/.exec(component.serverVersion ?? '')?.[0]) >= 7;
  const asLog = [
    `mkdir ${at(log)}`,
    `cp -p ${dump} ${at(`${log}/${base}`)}`,
    `printf '%s\\n' ${shellWord(`file ${redisWord(base)} seq 1 type b`)} > ${at(`${log}/${appendFilename}.manifest`)}`,
  ];
  return {
    title: `Redis (${component.name})`,
    text: [text],
    commands: [
      `mkdir -m 700 ${shellWord(folder)}`,
      `cp -p ${dump} ${at(dbFilename)}`,
      ...(hasLogDirectory ? asLog : []),
      `chown -R --reference=${dump} ${shellWord(folder)}`,
      ...fill(`${folder}/.`),
    ],
    then: [
      ...(hasLogDirectory
        ? []
        : [
            'If its configuration says appendonly yes, start it once with --appendonly no, then run: ' +
              `${redisCli(part)} config set appendonly yes`,
          ]),
      ...(users === undefined
        ? []
        : [ownFilesText([{ path: users.file, artifact: users.artifact }], 'The users it had')]),
      `Once it runs, this counts its keys, with its password in REDISCLI_AUTH: ${redisCli(part)} info keyspace`,
    ],
  };
}

/** In a container, redis-cli reaches the server at its usual place; addresses and files of this machine mean nothing. */
const redisCli = (part: Part): string =>
  part.compose === undefined
    ? ['redis-cli', ...(part.home.redisCli ?? []).map(shellWord)].join(' ')
    : `compose exec ${shellWord(serviceOf(part))} redis-cli`;

/** What a server had beside its data is the new one's own affair: nothing is overwritten unasked. */
const ownFilesText = (
  files: readonly { readonly path: string; readonly artifact: string }[],
  what: string,
): string =>
  `${what} are in the snapshot and not in place yet. Compare them with what the new server has; to take them over, ` +
  `stop it and run: ${files.map(({ path, artifact }) => `cp ${shellWord(artifact)} ${shellWord(path)}`).join(' && ')}`;

/** Chroma starts on its persist directory; an export of records has no way back without its API. */
export function chromaStep(part: Part): RecoveryStep {
  const { component } = part;
  const title = `Chroma (${component.name})`;
  if (!component.artifacts.some(({ path }) => path.startsWith(`${component.name}/persist/`))) {
    const text = `The snapshots hold the records as JSON lines, under ${component.name}/export: one file a collection, whose first line describes it. They have to be added through Chroma's API.`;
    return { title, text: [text], commands: [] };
  }
  const { text, fill } = placeOf(part);
  return { title, text: [text], commands: fill(`${component.name}/persist/.`) };
}

const ollamaFacts = z.object({ models: z.array(z.object({ name: z.string(), stored: z.string() })) });

/** Models go back as files; those that are known by name only are pulled. */
export function ollamaStep(part: Part): RecoveryStep {
  const { component } = part;
  const { models } = ollamaFacts.parse(component.facts);
  const absent = models.filter(({ stored }) => stored !== 'model').map(({ name }) => name);
  const whole = models.length > absent.length;
  return {
    title: `Ollama (${component.name})`,
    text:
      models.length === 0
        ? ['There is nothing to put back: it had no models when the snapshot was taken.']
        : whole
          ? [placeOf(part).text]
          : [],
    commands: whole ? placeOf(part).fill(`${component.name}/.`) : [],
    then:
      absent.length === 0
        ? []
        : [
            `These models are not in the snapshots; once Ollama runs, pull them with ollama pull: ${absent.join(', ')}`,
          ],
  };
}

const postgresFacts = z.object({
  serverFiles: z.array(z.object({ path: z.string(), artifact: z.string() })).optional(),
});

/** Roles and databases go into a running server, through its own programs. */
export function postgresStep(part: Part): RecoveryStep {
  const { component, home, compose } = part;
  const dumps = component.artifacts.map(({ path }) => path).filter((path) => path.endsWith('.dump'));
  const databases = dumps.map((path) => ({
    path,
    name: path.slice(component.name.length + 1, -'.dump'.length),
  }));
  const globals = `${component.name}/globals.sql`;
  const major = component.serverVersion?.split('.')[0] ?? '';
  const text =
    `Into a fresh server of version ${major} or newer. Ignore the error that a role exists already. From then on ` +
    'roles have the passwords that they had in the snapshot.';
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
      `export PGHOST=${shellWord(home.host ?? '127.0.0.1')} PGPORT=${home.port ?? 5432} PGUSER=${shellWord(home.user ?? 'postgres')}`,
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
  return word === value ? word : word.replaceAll("'", `'\\''`);
};
