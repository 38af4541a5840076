import { z } from 'zod';
import type { Bytes } from '../../ports/artifacts.ts';
import {
  commonSettingSchema,
  membershipSchema,
  parameterGrantSchema,
  roleSchema,
  type CommonSetting,
  type MembershipFacts,
  type ParameterGrant,
  type PostgresFacts,
  type RoleFacts,
} from './facts.ts';
import { identifier, literal } from './names.ts';
import type { Globals } from './compare/globals.ts';
import { readServer, setClause } from './compare/properties.ts';
import { sqlState, type Session } from './connection/session.ts';

/** The catalog has settings as `name=value`. */
const roleRowSchema = roleSchema.extend({ settings: z.array(z.string()).nullable() });

/** Every role but the built-in ones. Passwords are never part of it: facts may be shown. */
export async function readRoles(session: Session, signal: AbortSignal): Promise<RoleFacts[]> {
  const rows = await session.rows(
    roleRowSchema,
    `SELECT rolname AS name, rolsuper AS superuser, rolinherit AS inherit, rolcreaterole AS "createRole",
       rolcreatedb AS "createDatabase", rolcanlogin AS login, rolreplication AS replication,
       rolbypassrls AS "bypassRls", rolconnlimit AS "connectionLimit", rolvaliduntil::text AS "validUntil",
       shobj_description(oid, 'pg_authid') AS comment, rolconfig AS settings
     FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname COLLATE "C"`,
    signal,
  );
  return rows.map(({ settings, ...role }) => ({
    ...role,
    settings: (settings ?? []).map((item) => {
      const at = item.indexOf('=');
      return { name: item.slice(0, at), value: item.slice(at + 1) };
    }),
  }));
}

/** Who is a member of what, built-in roles such as pg_read_all_data included as the granted role. */
export async function readMemberships(session: Session, signal: AbortSignal): Promise<MembershipFacts[]> {
  // Options of a membership came with 16: as JSON, missing ones read as null.
  const rows = await session.rows(
    membershipSchema.extend({ inherit: z.boolean().nullable(), set: z.boolean().nullable() }),
    `SELECT pg_get_userbyid(roleid) AS role, pg_get_userbyid(member) AS member, bool_or(admin_option) AS admin,
       bool_or((to_jsonb(m) ->> 'inherit_option')::bool) AS inherit, bool_or((to_jsonb(m) ->> 'set_option')::bool) AS set
     FROM pg_auth_members m WHERE pg_get_userbyid(member) !~ '^pg_'
     GROUP BY 1, 2 ORDER BY 1, 2`,
    signal,
  );
  return rows.map(({ inherit, set, ...membership }) => ({
    ...membership,
    ...(inherit === null ? {} : { inherit }),
    ...(set === null ? {} : { set }),
  }));
}

/** Who may set which parameter; the catalog came with 15. */
export async function readParameterGrants(
  session: Session,
  major: number,
  signal: AbortSignal,
): Promise<ParameterGrant[]> {
  if (major < 15) return [];
  return session.rows(
    parameterGrantSchema,
    `SELECT parname AS parameter, CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END AS grantee,
       a.privilege_type AS privilege, bool_or(a.is_grantable) AS grantable
     FROM pg_parameter_acl, aclexplode(paracl) a WHERE a.grantee <> 10 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
    signal,
  );
}

/** Settings of all roles in all databases. */
export async function readCommonSettings(session: Session, signal: AbortSignal): Promise<CommonSetting[]> {
  return session.rows(
    commonSettingSchema,
    `SELECT split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value
     FROM pg_db_role_setting s, unnest(s.setconfig) item WHERE s.setdatabase = 0 AND s.setrole = 0 ORDER BY 1`,
    signal,
  );
}

/** Everything compared that all databases share. */
export async function readGlobals(session: Session, signal: AbortSignal): Promise<Globals> {
  const { major } = await readServer(session, signal);
  return {
    roles: await readRoles(session, signal),
    memberships: await readMemberships(session, signal),
    parameterGrants: await readParameterGrants(session, major, signal),
    commonSettings: await readCommonSettings(session, signal),
  };
}

/** The statement that sets it again. */
export const commonSettingStatement = ({ name, value }: CommonSetting): string =>
  `ALTER ROLE ALL ${setClause(name, value)}`;

/** True when password hashes can be read. */
export async function mayReadPasswords(session: Session, signal: AbortSignal): Promise<boolean> {
  const { may } = await session.row(
    z.object({ may: z.boolean() }),
    `SELECT has_table_privilege('pg_authid', 'SELECT') AS may`,
    signal,
  );
  return may;
}

/** Captured roles that the server does not have. */
export async function missingRoles(
  session: Session,
  facts: PostgresFacts,
  signal: AbortSignal,
): Promise<RoleFacts[]> {
  const present = await session.rows(
    z.object({ name: z.string() }),
    `SELECT rolname AS name FROM pg_roles`,
    signal,
  );
  const names = new Set(present.map(({ name }) => name));
  return facts.roles.filter(({ name }) => !names.has(name));
}

const globalsLimitBytes = 16 << 20;
const passwordLine =
  /^ALTER ROLE ("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*) WITH [^']*PASSWORD '(SCRAM-SHA-256\$[\w+/=:$]+|md5[0-9a-f]{32})'/;

/**
 * The password hashes in `globals.sql`, by role. Nothing else of that file is used, and none of it is executed:
 * everything but the hashes is in the facts.
 */
export async function readPasswordHashes(globals: Bytes): Promise<Map<string, string>> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of globals) {
    sizeBytes += piece.byteLength;
    if (sizeBytes <= globalsLimitBytes) pieces.push(piece);
  }
  const hashes = new Map<string, string>();
  for (const line of Buffer.concat(pieces).toString().split('\n')) {
    const [, name, hash] = passwordLine.exec(line) ?? [];
    if (name === undefined || hash === undefined) continue;
    hashes.set(name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name, hash);
  }
  return hashes;
}

/** Statements that create `role` as captured, with the hash of its password when there is one. */
function createRoleStatements(role: RoleFacts, passwordHash: string | undefined): string[] {
  const name = identifier(role.name);
  const flag = (on: boolean, word: string): string => `${on ? '' : 'NO'}${word}`;
  const attributes = [
    flag(role.superuser, 'SUPERUSER'),
    flag(role.inherit, 'INHERIT'),
    flag(role.createRole, 'CREATEROLE'),
    flag(role.createDatabase, 'CREATEDB'),
    flag(role.login, 'LOGIN'),
    flag(role.replication, 'REPLICATION'),
    flag(role.bypassRls, 'BYPASSRLS'),
    `CONNECTION LIMIT ${role.connectionLimit}`,
    ...(role.validUntil === null ? [] : [`VALID UNTIL ${literal(role.validUntil)}`]),
    ...(passwordHash === undefined ? [] : [`PASSWORD ${literal(passwordHash)}`]),
  ];
  return [
    `CREATE ROLE ${name} WITH ${attributes.join(' ')}`,
    ...role.settings.map((setting) => `ALTER ROLE ${name} ${setClause(setting.name, setting.value)}`),
    ...(role.comment === null ? [] : [`COMMENT ON ROLE ${name} IS ${literal(role.comment)}`]),
  ];
}

/**
 * Creates roles in one transaction. Memberships are granted where the member is new; existing roles never gain
 * any. (As a role being granted, an existing role is not altered by it.)
 */
export async function createRoles(
  session: Session,
  roles: readonly RoleFacts[],
  { memberships, parameterGrants, hashes, serverMajor }: RoleGrants,
  signal: AbortSignal,
): Promise<void> {
  const created = new Set(roles.map(({ name }) => name));
  const statements = [
    ...roles.flatMap((role) => createRoleStatements(role, hashes.get(role.name))),
    ...memberships
      .filter(({ member }) => created.has(member))
      .map((membership) => membershipStatement(membership, serverMajor)),
    ...(serverMajor < 15 ? [] : parameterGrants)
      .filter(({ grantee }) => grantee !== null && created.has(grantee))
      .map(parameterStatement),
  ];
  if (statements.length === 0) return;
  await session.run('BEGIN', signal);
  try {
    await keepOutOfServerLog(session, signal);
    for (const statement of statements) await session.run(statement, signal);
    await session.run('COMMIT', signal);
  } catch (error) {
    await session.run('ROLLBACK', signal).catch(() => undefined);
    throw error;
  }
}

/** What new roles are given. */
interface RoleGrants {
  readonly memberships: readonly MembershipFacts[];
  readonly parameterGrants: readonly ParameterGrant[];
  readonly hashes: ReadonlyMap<string, string>;
  /** Of the server they are created on. */
  readonly serverMajor: number;
}

function membershipStatement(
  { role, member, admin, inherit, set }: MembershipFacts,
  serverMajor: number,
): string {
  const grant = `GRANT ${identifier(role)} TO ${identifier(member)}`;
  if (serverMajor < 16 || inherit === undefined || set === undefined)
    return admin ? `${grant} WITH ADMIN OPTION` : grant;
  return `${grant} WITH ADMIN ${admin}, INHERIT ${inherit}, SET ${set}`;
}

const parameterName = (parameter: string): string => parameter.split('.').map(identifier).join('.');

function parameterStatement({ parameter, grantee, privilege, grantable }: ParameterGrant): string {
  const to = grantee === null ? 'PUBLIC' : identifier(grantee);
  return `GRANT ${privilege} ON PARAMETER ${parameterName(parameter)} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`;
}

/** Statements with password hashes do not belong into the server's log. Only a superuser may say so. */
async function keepOutOfServerLog(session: Session, signal: AbortSignal): Promise<void> {
  await session.run(
    `SELECT set_config(name, value, true)
     FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'),
       ('log_min_error_statement', 'panic')) v(name, value)
     WHERE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`,
    signal,
  );
}

/** Drops roles a restore created, except those something depends on by now. */
export async function dropRoles(
  session: Session,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (const name of names) {
    try {
      await revokeParameters(session, name, signal);
      await session.run(`DROP ROLE IF EXISTS ${identifier(name)}`, signal);
    } catch (error) {
      // dependent_objects_still_exist, object_in_use
      if (!['2BP01', '55006'].includes(sqlState(error) ?? '')) throw error;
    }
  }
}

/** What a role may set keeps it from being dropped. */
async function revokeParameters(session: Session, role: string, signal: AbortSignal): Promise<void> {
  const { major } = await readServer(session, signal);
  for (const { parameter, grantee } of await readParameterGrants(session, major, signal)) {
    if (grantee !== role) continue;
    await session.run(`REVOKE ALL ON PARAMETER ${parameterName(parameter)} FROM ${identifier(role)}`, signal);
  }
}
