import { z } from 'zod';
import { parseCronExpression } from '../model/cron-expression.ts';

const argv = z.array(z.string().min(1)).min(1).describe('A command and its arguments; no shell is involved.');
const port = z.int().min(1).max(65_535);
const secret = {
  password: z.string().optional().describe('Prefer password_file, or ${VARIABLE} from the environment.'),
  password_file: z.string().optional().describe('A file that holds the password and nothing else.'),
};
const common = {
  service: z.string().optional().describe('The service (below) this store runs in.'),
};

const postgres = z.strictObject({
  kind: z.literal('postgres'),
  host: z.string().optional().describe('Default: 127.0.0.1, or where the container of `service` is.'),
  port: port.optional().describe('Default: 5432; with `docker`, the port in the container.'),
  user: z.string().optional().describe('Default: postgres, or POSTGRES_USER of the container.'),
  databases: z.array(z.string()).optional().describe('Default: every database that takes connections.'),
  client_bin_dir: z
    .string()
    .optional()
    .describe('Where pg_dump and pg_restore are, when not found by themselves.'),
  sslmode: z
    .enum(['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'])
    .optional()
    .describe('As for psql. Default: PGSSLMODE, or else prefer.'),
  sslrootcert: z
    .string()
    .optional()
    .describe(
      'A file with the certificate the server must be signed by, or `system`. Default: PGSSLROOTCERT.',
    ),
  sslcert: z.string().optional().describe('The certificate to log in with. Default: PGSSLCERT.'),
  sslkey: z.string().optional().describe('Its key. Default: PGSSLKEY.'),
  ...secret,
  ...common,
});

const redis = z.strictObject({
  kind: z.literal('redis'),
  url: z
    .string()
    .optional()
    .describe('Such as rediss://user@10.0.0.5:6380; in place of host, port, username, password and tls.'),
  host: z.string().optional().describe('Default: 127.0.0.1, or where the container of `service` is.'),
  port: port.optional().describe('Default: 6379; with `docker`, the port in the container.'),
  socket: z
    .string()
    .optional()
    .describe('A Unix socket, in place of host and port: `unixsocket` of redis.conf.'),
  tls: z
    .boolean()
    .optional()
    .describe('As for redis-cli. Default: true with one of the settings below, or else false.'),
  cacert: z
    .string()
    .optional()
    .describe(
      'A file with the certificate the server must be signed by. Default: the authorities of this machine.',
    ),
  cert: z.string().optional().describe('The certificate to log in with.'),
  key: z.string().optional().describe('Its key.'),
  sni: z
    .string()
    .optional()
    .describe('The name in the certificate of the server. Default: with `cacert` any, or else `host`.'),
  insecure: z.boolean().optional().describe('Accept any certificate of the server.'),
  username: z.string().optional(),
  data_dir: z.string().optional().describe("The server's `dir`; needed to restore."),
  ...secret,
  ...common,
});

const chroma = z.strictObject({
  kind: z.literal('chroma'),
  url: z.string().optional().describe('Such as http://127.0.0.1:8000'),
  headers: z.record(z.string(), z.string()).default({}),
  path: z
    .string()
    .optional()
    .describe('The persist directory, the one with chroma.sqlite3; the safest capture.'),
  tenants: z.array(z.string()).optional().describe('For captures over HTTP only: which tenants there are.'),
  ...common,
});

const ollama = z.strictObject({
  kind: z.literal('ollama'),
  path: z
    .string()
    .optional()
    .describe(
      'The model store, with manifests/ and blobs/ in it; with `docker`, found through the container.',
    ),
  url: z.string().optional(),
  models: z.enum(['none', 'list', 'all']).default('list'),
  ...common,
});

const config = z.strictObject({
  kind: z.literal('config'),
  files: z.array(z.string()).min(1),
  age_identity_file: z.string().optional().describe('Opens sealed configuration at a restore.'),
  ...common,
});

const files = z.strictObject({
  kind: z.literal('files'),
  paths: z.array(z.string()).min(1).optional().describe('Directories of this machine.'),
  inside: z
    .string()
    .startsWith('/')
    .optional()
    .describe(
      'With `docker`, instead of paths: a directory in the container of `service`, in a mount of it.',
    ),
  exclude: z
    .array(z.string())
    .default([])
    .describe(
      'What is left out of each of the directories: patterns as in a .gitignore there. `cache` matches at any depth, `/cache` only at the top, `cache/` only directories, `*.tmp` and `**/x` as usual; `!keep.tmp` takes back. A pattern that matches nothing is reported.',
    ),
  ...common,
});

const component = z.discriminatedUnion('kind', [postgres, redis, chroma, ollama, config, files]);
export type ComponentSettings = z.infer<typeof component>;

const service = z.strictObject({
  start: argv.optional().describe('Returns when the service was started.'),
  stop: argv.optional(),
  status: argv.optional().describe('Exit code 0 means it runs.'),
  command: argv.optional().describe('A program in the foreground that tars starts detached.'),
  pid_file: z.string().optional(),
  log_file: z.string().optional(),
  systemd_unit: z.string().optional(),
  user: z.string().optional(),
  depends_on: z.array(z.string()).default([]),
  stop_timeout_ms: z
    .int()
    .positive()
    .optional()
    .describe('Default: 60000; with `docker`, what the Compose file says, and 60000 at least for stores.'),
  start_timeout_ms: z.int().positive().default(120_000),
  writer: z
    .boolean()
    .optional()
    .describe(
      'Whether it writes to the stores: then it is paused for some milliseconds for the cut. Default: false; what depends on a store without a word here is reported.',
    ),
  pause: argv
    .optional()
    .describe('Default: SIGSTOP to the main process of systemd_unit, or else the one in pid_file.'),
  resume: argv.optional().describe('Default: SIGCONT to the same process.'),
});
export type ServiceSettings = z.infer<typeof service>;

/** What tars knows to capture. `kind:` may be left out where the component's name says it. */
export const componentKinds = ['postgres', 'redis', 'chroma', 'ollama', 'config', 'files'] as const;
const kinds: ReadonlySet<string> = new Set(componentKinds);

const components = z.preprocess(
  (value) => {
    // A section whose every line is still a comment is null in YAML; so is `redis:` with nothing but defaults.
    if (value === null || value === undefined) return {};
    if (typeof value !== 'object' || Array.isArray(value)) return value;
    const withKind = ([name, body]: [string, unknown]): [string, unknown] =>
      kinds.has(name) && (body === null || (isMap(body) && !('kind' in body)))
        ? [name, { ...body, kind: name }]
        : [name, body];
    return Object.fromEntries(Object.entries(value).map(withKind));
  },
  z.record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/), component),
);

const isMap = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const docker = z.strictObject({
  project: z.string().describe("The Compose project's name: the first column of `docker compose ls`."),
  compose_files: z
    .array(z.string())
    .default([])
    .describe('To create the project where there is none. Default: those its containers name.'),
  env_files: z.array(z.string()).default([]).describe('As given to `docker compose --env-file`.'),
  host: z
    .string()
    .optional()
    .describe('The Engine, such as unix:///var/run/docker.sock. Default: DOCKER_HOST, the current context.'),
});
export type DockerSettings = z.infer<typeof docker>;

const count = z.int().positive().optional();
const age = z
  .string()
  .regex(/^(\d+[ymdh])+$/, 'Such as 1y6m, 30d or 12h: years, months, days, hours')
  .optional();

const retention = z.strictObject({
  keep_last: count.describe('The newest so many snapshots.'),
  keep_hourly: count.describe('The newest snapshot of each of the last so many hours that have one.'),
  keep_daily: count,
  keep_weekly: count,
  keep_monthly: count,
  keep_yearly: count,
  keep_within: age.describe('Every snapshot younger than this, counted from the newest one.'),
  keep_tags: z.array(z.string()).default([]).describe('Snapshots with any of these tags are always kept.'),
  after_backup: z
    .boolean()
    .default(false)
    .describe('Whether every backup forgets what this no longer keeps.'),
  archives: z
    .strictObject({ keep_last: count, keep_within: age })
    .optional()
    .describe('The same for portable archives in the directory of `backup --output-dir`.'),
});
export type RetentionSettings = z.infer<typeof retention>;

const cron = z
  .string()
  .superRefine((expression, check) => {
    try {
      parseCronExpression(expression);
    } catch (error) {
      check.addIssue(error instanceof RangeError ? error.message : 'is no cron');
    }
  })
  .optional();

const schedule = z.strictObject({
  backup: cron.describe('Five fields as in a crontab, in local time: minute, hour, day, month, weekday.'),
  forget: cron.describe('Forgets what `retention` no longer keeps, then prunes.'),
  check: cron.describe('Checks the repository, reading all of it.'),
  randomized_delay_minutes: z.int().nonnegative().default(10),
});

/** `tars.yaml`. Spelt in snake_case, as the Compose files beside it are. */
export const settingsSchema = z.strictObject({
  version: z.literal(1),
  stack: z.string().regex(/^[a-z0-9][a-z0-9_.-]*$/),
  host: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 'A name of letters, digits, dots, hyphens and underscores')
    .optional()
    .describe(
      'Snapshots belong to a stack on a host. Default: the host name of this machine. After a rename, or to continue as another machine on this one: the name that `tars snapshots` shows.',
    ),
  repository: z.strictObject({
    path: z.string(),
    password_file: z.string().optional(),
    password_command: argv.optional(),
  }),
  scratch_dir: z
    .string()
    .optional()
    .describe('Room for spooled data; default: the system’s temporary directory.'),
  state_dir: z.string().optional().describe('Where running and finished restores are recorded.'),
  pause_max_ms: z.int().positive().default(5000),
  secrets: z.enum(['repository', 'sealed', 'redact-only']).default('repository'),
  age_recipients: z.array(z.string()).default([]),
  docker: docker
    .optional()
    .describe('The stack is a Compose project; `service` of a component is one of its.'),
  retention: retention.optional().describe('Which snapshots `tars forget` keeps.'),
  schedule: schedule.optional().describe('When what runs by itself, once `tars schedule install` was run.'),
  services: z.preprocess((value) => value ?? {}, z.record(z.string(), service)),
  components,
});
export type SettingsFile = z.infer<typeof settingsSchema>;
