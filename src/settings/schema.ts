import { z } from 'zod';
import { parseCronExpression } from '../model/cron-expression.ts';
import type { Kinds } from '../ports/kind.ts';

/** Makes a path of this machine absolute. */
type LocalPath = (path: string) => string;

const argv = z.array(z.string().min(1)).min(1).describe('A command and its arguments; no shell is involved.');
const serviceSchema = (local: LocalPath) =>
  z.strictObject({
    start: argv.optional().describe('Returns after the service has started.'),
    stop: argv.optional(),
    status: argv.optional().describe('Exit code 0 means that the service runs.'),
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
      .describe(
        'Default: 60000; with `docker`, the value of the Compose file, and at least 60000 for stores.',
      ),
    start_timeout_ms: z.int().positive().default(120_000),
    writer: z
      .boolean()
      .optional()
      .describe(
        'Whether the service writes to the stores; if so, it is paused for some milliseconds for the cut. Default: false. If a service depends on a store and this is not set, it is reported.',
      ),
    pause: argv
      .optional()
      .describe(
        'Default: SIGSTOP to the main process of systemd_unit, otherwise to the process in pid_file.',
      ),
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
    project: z.string().describe('The name of the Compose project: the first column of `docker compose ls`.'),
    compose_files: z
      .array(z.string().overwrite(local))
      .default([])
      .describe('Needed to create a missing project. Default: the files that its containers name.'),
    env_files: z
      .array(z.string().overwrite(local))
      .default([])
      .describe('The files to pass to `docker compose --env-file`.'),
    host: z
      .string()
      .optional()
      .describe(
        'The address of the Engine, such as unix:///var/run/docker.sock. Default: DOCKER_HOST, the current context.',
      ),
  });
export type DockerSettings = z.infer<ReturnType<typeof dockerSchema>>;

const count = z.int().positive().optional();
const age = z
  .string()
  .regex(/^(\d+[ymdh])+$/, 'Such as 1y6m, 30d or 12h: years, months, days, hours')
  .optional();

const retention = z.strictObject({
  keep_last: count.describe('How many of the newest snapshots to keep.'),
  keep_hourly: count.describe('Keep the newest snapshot of each of the last n hours that have one.'),
  keep_daily: count,
  keep_weekly: count,
  keep_monthly: count,
  keep_yearly: count,
  keep_within: age.describe('Keep every snapshot younger than this, counted from the newest one.'),
  keep_tags: z.array(z.string()).default([]).describe('Snapshots with any of these tags are always kept.'),
  after_backup: z
    .boolean()
    .default(false)
    .describe('Whether every backup forgets the snapshots that these rules no longer keep.'),
  archives: z
    .strictObject({ keep_last: count, keep_within: age })
    .optional()
    .describe('The same rules for portable archives in the directory of `backup --output-dir`.'),
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
  forget: cron.describe('Forgets the snapshots that `retention` no longer keeps, then prunes.'),
  check: cron.describe('Checks the repository and reads all of it.'),
  randomized_delay_minutes: z.int().nonnegative().default(10),
});

/** A path in a service's container, or a volume. */
const leftOutPlace = /^(volume \S+|[^\s:/]+:\/.*)$/;

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
        'Snapshots belong to a stack on a host. Default: the host name of this machine. If this machine was renamed or replaces another one, set the name that `tars snapshots` shows.',
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
      .describe('The directory for temporary dumps. Default: the system’s temporary directory.'),
    state_dir: z
      .string()
      .overwrite(local)
      .optional()
      .describe('The directory for the records of runs and restores.'),
    pause_max_ms: z.int().positive().default(5000),
    secrets: z.enum(['repository', 'sealed', 'redact-only']).default('repository'),
    age_recipients: z.array(z.string()).default([]),
    docker: dockerSchema(local)
      .optional()
      .describe(
        'Set if the stack is a Compose project; `service` of a component is then a service of the project.',
      ),
    everything: z
      .boolean()
      .default(false)
      .describe(
        'With `docker`: whether a backup also captures each volume and each directory of the services that no component names and `leave_out` does not list, such as those of a service that was added later. If one of them cannot be captured, the exit code of the backup is 2.',
      ),
    leave_out: z
      .preprocess(
        (value) => value ?? {},
        z.record(z.string().regex(leftOutPlace, 'Such as web:/app/cache, or volume NAME'), z.string().min(1)),
      )
      .describe(
        'With `docker`: what a restore need not bring back, and why. Each key is a place as `tars backup` prints it: `SERVICE:/PATH`, with everything below that path, or `volume NAME`.',
      ),
    retention: retention.optional().describe('Which snapshots `tars forget` keeps.'),
    schedule: schedule.optional().describe('The times of scheduled tasks, after `tars schedule install`.'),
    services: z.preprocess((value) => value ?? {}, z.record(z.string(), serviceSchema(local))),
    components: componentsSchema(kinds, local),
  });
export type SettingsFile = z.infer<ReturnType<typeof settingsSchema>>;
