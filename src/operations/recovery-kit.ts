import { z } from 'zod';
import type { ComponentManifest, ComposeRecord, Manifest } from '../model/manifest.ts';
import { shellWord, type RecoveryStep } from '../model/recovery-kit.ts';

/** Where one component of the stack is at home, as far as the configuration says. */
export interface HomeOfComponent {
  readonly service?: string | undefined;
  /** Of a server. */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
  /** Of files. */
  readonly directory?: string | undefined;
  /** The directory is one of the service's container, not of the machine. */
  readonly inContainer?: boolean | undefined;
  readonly identityFile?: string | undefined;
}

/** What the steps are written from. */
export interface RecoveryFacts {
  readonly stack: string;
  readonly repository: string;
  readonly repositoryId: string;
  readonly keyCheck: string;
  /** Of the newest snapshot; undefined while there is none. */
  readonly manifest: Manifest | undefined;
  readonly homes: Readonly<Record<string, HomeOfComponent>>;
  /** Commands that start the services which need a command, in the order of what they need. */
  readonly starts: readonly string[];
}

/** What one component's part of the page is written from. */
interface Part {
  readonly component: ComponentManifest;
  readonly home: HomeOfComponent;
  readonly compose: ComposeRecord | undefined;
}

/**
 * The steps of a recovery with stock restic, the stores' own programs and a shell, with the paths and names of this
 * stack. Nothing in them needs tars.
 */
export function recoverySteps(facts: RecoveryFacts): readonly RecoveryStep[] {
  const { manifest } = facts;
  if (manifest === undefined) return [openStep(facts), fetchStep(facts)];
  const captured = manifest.components.filter(({ outcome }) => outcome === 'captured');
  const parts = captured.map((component): Part => {
    return { component, home: facts.homes[component.name] ?? {}, compose: manifest.compose };
  });
  const of = (kind: string, step: (part: Part) => RecoveryStep): RecoveryStep[] =>
    parts.filter(({ component }) => component.kind === kind).map(step);
  return [
    openStep(facts),
    fetchStep(facts),
    ...of('config', configStep),
    ...(manifest.compose === undefined ? [] : [createStep(manifest.compose)]),
    ...of('files', treesStep),
    ...of('redis', redisStep),
    ...of('chroma', chromaStep),
    ...of('ollama', ollamaStep),
    ...of('postgres', postgresStep),
    startStep(facts, manifest),
  ];
}

function openStep({ repository, repositoryId, keyCheck }: RecoveryFacts): RecoveryStep {
  return {
    title: 'Open the repository',
    text: [
      'Work as root on a machine with restic 0.14 or newer and the programs of the stores. If the repository is ' +
        'mounted elsewhere now, change the first line. At the second, type the recovery key and press Enter; mind 1, l ' +
        'and I, 0 and O.',
    ],
    commands: [
      `export RESTIC_REPOSITORY=${shellWord(repository)}`,
      'IFS= read -r RESTIC_PASSWORD && export RESTIC_PASSWORD',
      'printf %s "$RESTIC_PASSWORD" | sha256sum | cut -c1-8',
      'restic cat config',
      'restic snapshots',
    ],
    then: [
      `The third line must print ${keyCheck}: otherwise the key is mistyped. The fourth must show the id ` +
        `${repositoryId}.`,
    ],
  };
}

function fetchStep({ stack, manifest }: RecoveryFacts): RecoveryStep {
  const sizeBytes = (manifest?.components ?? []).flatMap(({ artifacts }) =>
    artifacts.map((a) => a.sizeBytes),
  );
  const needed = Math.ceil(sizeBytes.reduce((sum, bytes) => sum + bytes, 0) / 2 ** 20);
  return {
    title: 'Bring the newest snapshot out',
    text: [
      'A snapshot that is tagged partial lacks what failed in it: then take the id of an older one instead of latest.' +
        (manifest === undefined ? '' : ` The directory in the first line needs room for ${needed} MiB.`),
    ],
    commands: [
      'export RESCUE=/var/tmp/tars-rescue',
      `restic restore latest --path ${shellWord(`/tars/${stack}`)} --target "$RESCUE"`,
      `cd "$RESCUE"/${shellWord(`tars/${stack}`)}`,
    ],
    then:
      manifest === undefined
        ? ['There was no snapshot when this page was made: export it again after the first backup.']
        : ['What the snapshot holds, with the counts of every store, is in manifest.json.'],
  };
}

const configFacts = z.object({
  trueCopy: z.enum(['repository', 'sealed', 'none']),
  files: z.array(z.object({ path: z.string() })),
});

function configStep({ component, home }: Part): RecoveryStep {
  const { trueCopy, files } = configFacts.parse(component.facts);
  const title = `Configuration (${component.name})`;
  if (trueCopy === 'none') {
    const text = `The snapshots hold redacted views of the files only, under ${component.name}/redacted: their secrets have to come from elsewhere.`;
    return { title, text: [text], commands: [] };
  }
  const careful = 'Files that are there already are replaced: look at them first.';
  if (trueCopy === 'repository') {
    const stored = (path: string): string => shellWord(`${component.name}/true${path}`);
    const commands = files.flatMap(({ path }) => [
      `mkdir -p ${shellWord(directoryOf(path))}`,
      `cp -p ${stored(path)} ${shellWord(path)}`,
    ]);
    return { title, text: [careful], commands: [...new Set(commands)] };
  }
  const where =
    home.identityFile === undefined ? 'where you keep it' : `${home.identityFile} on the machine that was`;
  return {
    title,
    text: [
      `The files are sealed: besides the recovery key you need the age identity, a file with a line ` +
        `AGE-SECRET-KEY-1…; it was ${where}. Put its path into the first line. ${careful}`,
    ],
    commands: [
      `export IDENTITY=${shellWord(home.identityFile ?? '/path/to/age-identity.txt')}`,
      `age -d -i "$IDENTITY" ${shellWord(`${component.name}/sealed.age`)} | tar -xpf - -C /`,
    ],
    then: [`It brings back ${files.map(({ path }) => path).join(', ')}.`],
  };
}

const directoryOf = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf('/')));

function createStep({ project, workingDir, composeFiles, envFiles }: ComposeRecord): RecoveryStep {
  const flags = [
    `-p ${shellWord(project)}`,
    ...(workingDir === undefined ? [] : [`--project-directory ${shellWord(workingDir)}`]),
    ...composeFiles.map((file) => `-f ${shellWord(file)}`),
    ...envFiles.map((file) => `--env-file ${shellWord(file)}`),
  ];
  return {
    title: `Create the Compose project ${project}`,
    text: [
      'Images that are not there are pulled or built; manifest.json names them with their digests. Of programs this ' +
        'takes Docker with Compose 2 alone.',
    ],
    commands: [`compose() { docker compose ${flags.join(' ')} "$@"; }`, 'compose up --no-start'],
  };
}

const treesFacts = z.object({ trees: z.array(z.object({ path: z.string() })) });

function treesStep(part: Part): RecoveryStep {
  const { component, home } = part;
  const paths = treesFacts.parse(component.facts).trees.map(({ path }) => path);
  const place = (path: string): Place =>
    home.inContainer === true ? containerPlace(part, path) : machinePlace(path);
  return {
    title: `Directories (${component.name})`,
    text: [],
    commands: paths.flatMap((path) => place(path).fill(`${component.name}${path === '/' ? '' : path}/.`)),
  };
}

const serviceOf = ({ component, home }: Part): string => home.service ?? component.name;

/** A directory that files go into. */
interface Place {
  /** Commands that copy what is in a folder of the snapshot, `FOLDER/.`, with modes and owners. */
  readonly fill: (folder: string) => readonly string[];
  readonly text: string;
}

function machinePlace(directory: string | undefined): Place {
  const must = 'Its service must not run, and the directory must be empty.';
  return {
    text: directory === undefined ? `${must} Put its data directory into the first line.` : must,
    fill: (folder) => [
      `DATA=${shellWord(directory ?? '/path/to/its/data')}`,
      'mkdir -p "$DATA"',
      `cp -a ${shellWord(folder)} "$DATA"/`,
    ],
  };
}

/** A container that was created and never started takes files into its volumes as well. */
function containerPlace(part: Part, directory: string | undefined): Place {
  const must = 'The container must not run, and its volume must be empty.';
  const target = `${serviceOf(part)}:${directory ?? '/path/to/its/data'}/`;
  return {
    text: directory === undefined ? `${must} Put its data directory in the container into the line.` : must,
    fill: (folder) => [`compose cp -a ${shellWord(folder)} ${shellWord(target)}`],
  };
}

/** Where the store keeps its files. */
function placeOf(part: Part): Place {
  const { directory, inContainer } = part.home;
  const isInContainer = inContainer ?? (part.compose !== undefined && directory === undefined);
  return isInContainer ? containerPlace(part, directory) : machinePlace(directory);
}

const redisFacts = z.object({
  persistence: z.object({ dbFilename: z.string(), appendDirName: z.string(), appendFilename: z.string() }),
});

/**
 * An append-only server ignores dump.rdb, and overwrites it when it stops. So the snapshot is given as the base of its
 * log too: which of both the server's configuration asks for then makes no difference
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/, "Append-only file").
 */
function redisStep(part: Part): RecoveryStep {
  const { component } = part;
  const { persistence } = redisFacts.parse(component.facts);
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
    `echo ${shellWord(`file ${base} seq 1 type b`)} > ${at(`${log}/${appendFilename}.manifest`)}`,
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
    then: hasLogDirectory
      ? []
      : [
          'If its configuration says appendonly yes, start it once with --appendonly no, then run: ' +
            'redis-cli config set appendonly yes',
        ],
  };
}

function chromaStep(part: Part): RecoveryStep {
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

function ollamaStep(part: Part): RecoveryStep {
  const { component } = part;
  const { models } = ollamaFacts.parse(component.facts);
  const absent = models.filter(({ stored }) => stored !== 'model').map(({ name }) => name);
  const whole = models.length > absent.length;
  return {
    title: `Ollama (${component.name})`,
    text: whole ? [placeOf(part).text] : [],
    commands: whole ? placeOf(part).fill(`${component.name}/.`) : [],
    then:
      absent.length === 0
        ? []
        : [
            `These models are not in the snapshots; once Ollama runs, pull them with ollama pull: ${absent.join(', ')}`,
          ],
  };
}

function postgresStep(part: Part): RecoveryStep {
  const { component, home, compose } = part;
  const dumps = component.artifacts.map(({ path }) => path).filter((path) => path.endsWith('.dump'));
  const databases = dumps.map((path) => ({
    path,
    name: path.slice(component.name.length + 1, -'.dump'.length),
  }));
  const globals = `${component.name}/globals.sql`;
  const major = component.serverVersion?.split('.')[0] ?? '';
  const text =
    `Into a fresh server of version ${major} or newer. The complaint that a role exists already is none; from then on ` +
    'roles have the passwords that they had in the snapshot.';
  const title = `PostgreSQL (${component.name})`;
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
  };
}

/** `postgres` itself is there already. */
const creation = (name: string): string => (name === 'postgres' ? '' : ' --create');

/** A word inside the single quotes of `sh -c '…'`. */
const quotedInQuotes = (value: string): string => {
  const word = shellWord(value);
  return word === value ? word : word.replaceAll("'", `'\\''`);
};

function startStep({ starts }: RecoveryFacts, { compose }: Manifest): RecoveryStep {
  const commands = compose === undefined ? starts : ['compose up -d'];
  return {
    title: 'Start everything',
    text:
      commands.length === 0
        ? ['Give the files the owners that the services run as, where cp could not, and start the services.']
        : ['Give the files the owners that the services run as, where cp could not.'],
    commands,
    then: [
      'Compare with manifest.json: rows of tables, keys of databases, records of collections. Then make a first backup ' +
        'of the new machine, and remove "$RESCUE", which holds every secret of the stack.',
    ],
  };
}
