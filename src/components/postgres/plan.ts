import { z } from 'zod';
import { collectArtifacts } from '../../model/artifact-list.ts';
import { RestoreRefusedError } from '../../model/errors.ts';
import type { ComponentManifest, ManifestArtifact } from '../../model/manifest.ts';
import type { RestoreOptions, RestorePlan } from '../../model/restore-plan.ts';
import { counted } from '../../model/plural.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { Decision } from '../restore/single-use.ts';
import { findClient, type Client } from './connection/client.ts';
import { invalidDatabase } from './databases.ts';
import { parseFacts, type PostgresFacts, type RoleFacts } from './facts.ts';
import { asideNames, identifier, literal } from './names.ts';
import { addressOf, type PostgresOptions } from './connection/options.ts';
import { readServer, readTablespaces } from './compare/properties.ts';
import { commonSettingStatement, missingRoles, readCommonSettings } from './roles.ts';
import { openControlSession, type Session } from './connection/session.ts';
import { spaceNeeded } from './space.ts';

/** What staging needs of the plan. */
export interface PostgresPlanDetails {
  readonly restoreId: string;
  readonly facts: PostgresFacts;
  readonly serverMajor: number;
  readonly client: Client;
  /** Of the target server. */
  readonly tablespaces: ReadonlySet<string>;
  /** By path: what each artifact must turn out to be while it is read. */
  readonly artifacts: ReadonlyMap<string, ManifestArtifact>;
}

/** Everything that could make the restore fail later is asked now, while nothing has been touched. */
export async function planRestore(
  options: PostgresOptions,
  from: ComponentManifest,
  { restoreId, databases }: RestoreOptions,
  ctx: OperationContext,
  source: ArtifactSource,
): Promise<Decision<PostgresPlanDetails>> {
  const { signal } = ctx;
  const captured = parseFacts(from.facts, from.name);
  const facts = databases === undefined ? captured : chosenDatabases(captured, databases, options.name);
  await using control = await openControlSession(options, signal);
  const server = await readServer(control, signal);
  requireMajor(options, facts.serverMajor, server.major);
  const client = await findClient(options, Math.max(server.major, facts.clientMajor), signal);
  const roles = await missingRoles(control, facts, signal);
  await requireRights(control, options, roles, signal);
  await requireExtensions(control, facts, signal);
  const live = await liveDatabases(control, facts, signal);
  requireUsable(live);
  requireNoPreparedTransactions(live);
  const tablespaces = await readTablespaces(control, signal);
  const space = await spaceNeeded(control, options, facts, signal);
  const settings = await missingSettings(control, facts, signal);
  const artifacts = new Map(
    (await collectArtifacts(from, source, signal)).map((artifact) => [artifact.path, artifact]),
  );
  const needed = [facts.globalsArtifact, ...facts.databases.map(({ artifact }) => artifact)];
  const plan: RestorePlan = {
    component: options.name,
    kind: 'postgres',
    steps: planSteps(options, facts, restoreId, roles, live),
    warnings: [
      ...tablespaceWarnings(facts, tablespaces),
      ...planWarnings(facts, roles, server.major, space.known),
      ...settings.map(
        (statement) => `A setting for all roles is not restored. To restore it, run: ${statement}`,
      ),
      ...unreadWarnings(facts),
    ],
    artifacts: needed,
    requires: { stopped: [], running: options.service === undefined ? [] : [options.service] },
    space: space.directories,
    ...(databases === undefined ? {} : { part: { ...from, facts } }),
  };
  return { plan, details: { restoreId, facts, serverMajor: server.major, client, tablespaces, artifacts } };
}

/** @throws RestoreRefusedError for a database that was not captured */
function chosenDatabases(facts: PostgresFacts, names: readonly string[], component: string): PostgresFacts {
  const known = facts.databases.map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new RestoreRefusedError(`The snapshot of ${component} has no database "${unknown}"`, {
      hint: `It has: ${known.join(', ')}. With several servers, name the one with --component.`,
    });
  }
  return { ...facts, databases: facts.databases.filter(({ name }) => names.includes(name)) };
}

function requireMajor(options: PostgresOptions, capturedMajor: number, targetMajor: number): void {
  if (targetMajor >= capturedMajor) return;
  throw new RestoreRefusedError(
    `Cannot restore into PostgreSQL at ${addressOf(options)}: it is version ${targetMajor}, and the snapshot was taken from version ${capturedMajor}`,
    {
      hint: `Start PostgreSQL ${capturedMajor} or newer there; a dump cannot be restored into an older version.`,
    },
  );
}

async function requireRights(
  control: Session,
  options: PostgresOptions,
  roles: readonly RoleFacts[],
  signal: AbortSignal,
): Promise<void> {
  const rights = await control.row(
    z.object({
      superuser: z.boolean(),
      databases: z.boolean(),
      roles: z.boolean(),
      standby: z.boolean(),
    }),
    `SELECT rolsuper AS superuser, rolsuper OR rolcreatedb AS databases, rolsuper OR rolcreaterole AS roles,
       pg_is_in_recovery() AS standby FROM pg_roles WHERE rolname = current_user`,
    signal,
  );
  if (rights.standby) {
    throw new RestoreRefusedError(`PostgreSQL at ${addressOf(options)} is a standby and accepts no writes`, {
      hint: 'Restore into the primary server.',
    });
  }
  const superusers = roles.filter(({ superuser }) => superuser && !rights.superuser);
  if (rights.databases && (rights.roles || roles.length === 0) && superusers.length === 0) return;
  const wanted = rights.databases ? `create the roles ${roleNames(roles)}` : 'create databases';
  throw new RestoreRefusedError(`User ${options.user} may not ${wanted}`, {
    hint: 'Configure a superuser for this component, or create what is missing by hand.',
  });
}

async function requireExtensions(control: Session, facts: PostgresFacts, signal: AbortSignal): Promise<void> {
  const wanted = new Set(
    facts.databases.flatMap(({ content }) => content.extensions.map(({ name }) => name)),
  );
  const available = await control.rows(
    z.object({ name: z.string() }),
    'SELECT name FROM pg_available_extensions',
    signal,
  );
  const missing = [...wanted].filter((name) => !available.some((extension) => extension.name === name));
  if (missing.length === 0) return;
  throw new RestoreRefusedError(
    `The target server does not have the extension${missing.length > 1 ? 's' : ''} ${missing.join(', ')}`,
    {
      hint: 'Install their packages on the server (for pgvector: postgresql-<version>-pgvector), then run this again.',
    },
  );
}

interface LiveDatabase {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sessions: number;
  readonly prepared: number;
  /** Left by an interrupted DROP DATABASE. */
  readonly invalid: boolean;
}

/** Those of the snapshot's databases that exist in the target. */
async function liveDatabases(
  control: Session,
  facts: PostgresFacts,
  signal: AbortSignal,
): Promise<LiveDatabase[]> {
  const names = facts.databases.map(({ name }) => literal(name)).join(', ');
  return control.rows(
    z.object({
      name: z.string(),
      sizeBytes: z.coerce.number(),
      sessions: z.coerce.number(),
      prepared: z.coerce.number(),
      invalid: z.boolean(),
    }),
    `SELECT datname AS name, pg_database_size(oid)::text AS "sizeBytes",
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid())::text AS sessions,
       (SELECT count(*) FROM pg_prepared_xacts x WHERE x.database = d.datname)::text AS prepared,
       d.datconnlimit = ${invalidDatabase} AS invalid
     FROM pg_database d WHERE datname IN (${names || 'NULL'})`,
    signal,
  );
}

function requireUsable(live: readonly LiveDatabase[]): void {
  const invalid = live.find((database) => database.invalid);
  if (invalid === undefined) return;
  throw new RestoreRefusedError(
    `Database "${invalid.name}" was left unusable by an interrupted DROP DATABASE, and cannot be moved aside`,
    { hint: `Remove the rest of it with DROP DATABASE ${identifier(invalid.name)}, then run this again.` },
  );
}

function requireNoPreparedTransactions(live: readonly LiveDatabase[]): void {
  const blocked = live.find(({ prepared }) => prepared > 0);
  if (blocked === undefined) return;
  throw new RestoreRefusedError(
    `Database "${blocked.name}" has ${blocked.prepared} prepared transactions, and cannot be moved aside`,
    { hint: 'COMMIT PREPARED or ROLLBACK PREPARED them (see pg_prepared_xacts), then run this again.' },
  );
}

const roleNames = (roles: readonly RoleFacts[]): string => roles.map(({ name }) => name).join(', ');

function planSteps(
  options: PostgresOptions,
  facts: PostgresFacts,
  restoreId: string,
  roles: readonly RoleFacts[],
  live: readonly LiveDatabase[],
): string[] {
  const steps = roles.length === 0 ? [] : [`Create the missing roles ${roleNames(roles)}`];
  for (const { name, content } of facts.databases) {
    const { staged, previous } = asideNames(name, restoreId);
    const rows = content.tables.reduce((sum, table) => sum + table.rows, 0);
    steps.push(
      `Restore ${counted(content.tables.length, 'table')} with ${counted(rows, 'row')} into the new database "${staged}" at ${addressOf(options)} and compare it with the snapshot`,
    );
    const existing = live.find((database) => database.name === name);
    steps.push(
      existing === undefined
        ? `Rename it to "${name}", which does not exist yet`
        : `${keepPresent(existing)} as "${previous}" and rename the new database to "${name}"`,
    );
  }
  return steps;
}

const keepPresent = ({ name, sessions }: LiveDatabase): string =>
  sessions === 0 ? `Keep "${name}"` : `End the ${counted(sessions, 'session')} of "${name}", keep it`;

function planWarnings(
  facts: PostgresFacts,
  roles: readonly RoleFacts[],
  targetMajor: number,
  spaceKnown: boolean,
): string[] {
  const subscriptions = facts.databases.flatMap(({ content }) => content.subscriptions);
  const logins = roles.filter(({ login }) => login);
  return [
    ...(facts.passwords === 'included' || logins.length === 0
      ? []
      : [
          `The snapshot holds no passwords: ${roleNames(logins)} must be given new ones (ALTER ROLE … PASSWORD)`,
        ]),
    ...(subscriptions.length === 0
      ? []
      : [`Subscriptions are not restored: ${subscriptions.map(({ name }) => name).join(', ')}`]),
    ...(targetMajor === facts.serverMajor
      ? []
      : [`The target is PostgreSQL ${targetMajor}, the snapshot is from PostgreSQL ${facts.serverMajor}`]),
    ...(spaceKnown
      ? []
      : [
          "tars cannot see the server's disk: make sure that it has space for a second copy of the databases",
        ]),
  ];
}

/** Statements for settings that concern other databases of the server too, and so are the operator's to make. */
async function missingSettings(
  control: Session,
  { commonSettings = [] }: PostgresFacts,
  signal: AbortSignal,
): Promise<string[]> {
  const present = await readCommonSettings(control, signal);
  return commonSettings
    .filter(({ name, value }) => !present.some((other) => other.name === name && other.value === value))
    .map(commonSettingStatement);
}

function unreadWarnings({ databases }: PostgresFacts): string[] {
  return databases.flatMap(({ name, content: { unread = [] } }) =>
    unread.length === 0
      ? []
      : [
          `In database "${name}", these are restored but cannot be compared: ${unread.map(({ what }) => what).join(', ')}`,
        ],
  );
}

function tablespaceWarnings({ databases }: PostgresFacts, present: ReadonlySet<string>): string[] {
  const missing = databases.flatMap(({ name, properties, content }) =>
    [properties.tablespace, ...content.tablespaces.map((space) => space.name)]
      .filter((space) => !present.has(space))
      .map((space) => `There is no tablespace "${space}": "${name}" is restored into the default one`),
  );
  return [...new Set(missing)];
}
