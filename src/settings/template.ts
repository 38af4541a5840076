import { schemaLine } from './json-schema.ts';
import { careSections, type CareValues } from './template-sections.ts';

/** A Redis of this machine. */
export interface FoundRedis {
  readonly at: { readonly port: number } | { readonly socket: string };
  readonly tls?: { readonly cacert: string | undefined };
  readonly dataDir: string | undefined;
}

/** What {@link settingsTemplate} fills in. */
export interface TemplateValues {
  readonly stack: string;
  /** Left to the machine's own name where it is not given. */
  readonly host?: string | undefined;
  readonly repositoryPath: string;
  readonly passwordFile: string;
  /** Components found on this machine; the others are written as comments. */
  readonly found: ReadonlySet<'postgres' | 'redis' | 'chroma' | 'ollama'>;
  /** The model store, when there is one. */
  readonly ollamaPath: string;
  /** Where its configuration says that a Redis is; absent: at its usual place. */
  readonly redis?: FoundRedis | undefined;
  readonly care: CareValues;
}

const quote = (text: string): string => JSON.stringify(text);

/** Snapshots are of a stack on a host; the machine's own name is the default. */
export const hostLines = (host: string | undefined): string =>
  host === undefined
    ? '# host: NAME                             # default: the name of this machine'
    : `host: ${quote(host)}`;

/** The commented `tars.yaml` that `tars init` writes. */
export function settingsTemplate({
  stack,
  host,
  repositoryPath,
  passwordFile,
  found,
  ollamaPath,
  redis,
  care,
}: TemplateValues): string {
  const component = (kind: 'postgres' | 'redis' | 'chroma' | 'ollama', lines: readonly string[]): string =>
    lines.map((line) => (found.has(kind) ? `  ${line}` : `  # ${line}`)).join('\n');
  return `${schemaLine}
# What tars backs up, where to, and how services are stopped and started.
# \${NAME} is taken from the environment; relative paths start at this file's directory.
version: 1
stack: ${quote(stack)}
${hostLines(host)}

repository:
  path: ${quote(repositoryPath)}
  # The recovery key. Keep a copy of it away from this machine: without it the snapshots cannot be read.
  password_file: ${quote(passwordFile)}

# Room for spooled dumps; default: the system's temporary directory.
# scratch_dir: /var/tmp

# How the true configuration is kept: repository (encrypted with everything else),
# sealed (additionally for the age recipients below) or redact-only (secrets are not kept at all).
secrets: repository
# age_recipients: [age1...]

components:
${component('postgres', [
  'postgres:',
  '  host: 127.0.0.1',
  '  port: 5432',
  '  user: postgres',
  '  password_file: /etc/tars/postgres-password # or password: ${POSTGRES_PASSWORD}',
  '  # databases: [tars_home]              # default: all',
  '  # service: postgres                   # the service below that runs it',
])}

${component('redis', [
  'redis:',
  ...redisPlace(redis ?? { at: { port: 6379 }, dataDir: undefined }),
  '  # service: redis',
])}

${component('chroma', [
  'chroma:',
  '  url: http://127.0.0.1:8000',
  '  # path: /var/lib/chroma               # the directory with chroma.sqlite3: safest and fastest',
  '  # service: chroma',
])}

${component('ollama', [
  'ollama:',
  `  path: ${quote(ollamaPath)}`,
  '  models: list                          # none | list (names to pull again) | all',
  '  # service: ollama',
])}

  # config:                                # this file is captured with them
  #   files: [tars-home.env, docker-compose.yml]

# Services tars may stop and start for a restore, and pause for the cut, no longer than
# pause_max_ms: 5000
services:
  # postgres:
  #   systemd_unit: postgresql               # or start: [...], stop: [...], status: [...]
  # redis:
  #   systemd_unit: redis-server
  # chroma:
  #   systemd_unit: chroma                   # or command: [...] with pid_file: and log_file:
  # ollama:
  #   systemd_unit: ollama
  # backend:
  #   systemd_unit: tars-backend
  #   depends_on: [postgres, redis]
  #   writer: true                           # paused for some milliseconds while the cut is taken
  # worker:                                  # one that is no unit
  #   writer: true
  #   pid_file: /run/worker.pid              # or pause: [...] and resume: [...]

${careSections(care)
  .map((lines) => `${lines.join('\n')}\n`)
  .join('\n')}`;
}

function redisPlace({ at, tls, dataDir }: FoundRedis): readonly string[] {
  return [
    ...('port' in at ? ['  host: 127.0.0.1', `  port: ${at.port}`] : [`  socket: ${quote(at.socket)}`]),
    ...(tls === undefined ? [] : ['  tls: true']),
    ...(tls?.cacert === undefined ? [] : [`  cacert: ${quote(tls.cacert)}`]),
    ...(tls === undefined
      ? []
      : ['  # cert: FILE                         # with key: FILE, where it wants one of its clients']),
    '  # password_file: /etc/tars/redis-password',
    dataDir === undefined
      ? "  # data_dir: /var/lib/redis            # the server's `dir`; a restore needs it"
      : `  data_dir: ${quote(dataDir)} # a restore needs it`,
  ];
}
