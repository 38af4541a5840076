import { z } from 'zod';
import { parseCronExpression } from '../model/cron-expression.ts';
import type { Kinds } from '../ports/kind.ts';

/** Makes a path of this machine absolute. */
export type LocalPath = (path: string) => string;

const argv = z.array(z.string().min(1)).min(1).describe('A command and its arguments; no shell is involved.');
const serviceSchema = (local: LocalPath) =>
  z.strictObject({
    start: argv.optional().describe('Returns when the service was started.'),
    stop: argv.optional(),
    status: argv.optional().describe('Exit code 0 means it runs.'),
    command: argv.optional().describe('A program in the foreground that tars starts detached.'),
    pid_file: z.string().overwrite(local).optional(),
    log_file: z.string().overwrite(local).optional(),
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
export type ServiceSettings = z.infer<ReturnType<typeof serviceSchema>>;

/** `kind:` may be left out where the component's name says it. */
function componentsSchema(kinds: Kinds, local: LocalPath) {
  const [first, ...others] = kinds;
  const names: ReadonlySet<string> = new Set(kinds.map(({ name }) => name));
  const component = z.discriminatedUnion('kind', [
    first.schema(local),
    ...others.map((kind) => kind.schema(local)),
  ]);
  return z.preprocess(
    (value) => {
      // A section whose every line is still a comment is null in YAML; so is `redis:` with nothing but defaults.
      if (value === null || value === undefined) return {};
      if (typeof value !== 'object' || Array.isArray(value)) return value;
      const withKind = ([name, body]: [string, unknown]): [string, unknown] =>
        names.has(name) && (body === null || (isMap(body) && !('kind' in body)))
          ? [name, { ...body, kind: name }]
          : [name, body];
      return Object.fromEntries(Object.entries(value).map(withKind));
    },
    z.record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/), component),
  );
}

const isMap = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const dockerSchema = (local: LocalPath) =>
  z.strictObject({
    project: z.string().describe("The Compose project's name: the first column of `docker compose ls`."),
    compose_files: z
      .array(z.string().overwrite(local))
      .default([])
      .describe('To create the project where there is none. Default: those its containers name.'),
    env_files: z
      .array(z.string().overwrite(local))
      .default([])
      .describe('As given to `docker compose --env-file`.'),
    host: z
      .string()
      .optional()
      .describe(
        'The Engine, such as unix:///var/run/docker.sock. Default: DOCKER_HOST, the current context.',
      ),
  });
export type DockerSettings = z.infer<ReturnType<typeof dockerSchema>>;

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

/**
 * `tars.yaml`. Spelt in snake_case, as the Compose files beside it are.
 * @param local makes a path of this machine absolute
 */
export const settingsSchema = (kinds: Kinds, local: LocalPath) =>
  z.strictObject({
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
      password_file: z.string().overwrite(local).optional(),
      password_command: argv.optional(),
    }),
    scratch_dir: z
      .string()
      .overwrite(local)
      .optional()
      .describe('Room for spooled data; default: the system’s temporary directory.'),
    state_dir: z
      .string()
      .overwrite(local)
      .optional()
      .describe('Where running and finished restores are recorded.'),
    pause_max_ms: z.int().positive().default(5000),
    secrets: z.enum(['repository', 'sealed', 'redact-only']).default('repository'),
    age_recipients: z.array(z.string()).default([]),
    docker: dockerSchema(local)
      .optional()
      .describe('The stack is a Compose project; `service` of a component is one of its.'),
    retention: retention.optional().describe('Which snapshots `tars forget` keeps.'),
    schedule: schedule.optional().describe('When what runs by itself, once `tars schedule install` was run.'),
    services: z.preprocess((value) => value ?? {}, z.record(z.string(), serviceSchema(local))),
    components: componentsSchema(kinds, local),
  });
export type SettingsFile = z.infer<ReturnType<typeof settingsSchema>>;
