import type { Finding } from '../../../model/finding.ts';
import type { CommonSetting, MembershipFacts, ParameterGrant, PostgresFacts, RoleFacts } from '../facts.ts';

/** What all databases of a server share, beside tablespaces. */
export interface Globals {
  readonly roles: readonly RoleFacts[];
  readonly memberships: readonly MembershipFacts[];
  readonly parameterGrants: readonly ParameterGrant[];
  readonly commonSettings: readonly CommonSetting[];
}

/**
 * Compares roles and what they may do with the captured ones. A missing role is an error: a restore creates it. The
 * rest is a warning: a restore never alters roles that exist. Roles that were not captured are nobody's business.
 */
export function compareGlobals(expected: PostgresFacts, found: Globals, subject: string): readonly Finding[] {
  const finding = (severity: Finding['severity'], code: string, message: string): Finding => ({
    ...{ severity, subject, code, message },
  });
  const present = new Map(found.roles.map((role) => [role.name, role]));
  const roles = expected.roles.flatMap((role) => {
    const other = present.get(role.name);
    if (other === undefined) return [finding('error', 'role-missing', `Role "${role.name}" is missing`)];
    const changed = attributesThatDiffer(role, other);
    if (changed.length === 0) return [];
    return [
      finding(
        'warning',
        'role-differs',
        `Role "${role.name}" has another ${changed.join(', ')} than captured`,
      ),
    ];
  });
  // Of a role that is missing as a whole nothing more is said.
  const concerns = (name: string | null): boolean => isBuiltIn(name) || present.has(name ?? '');
  const captured = new Set(expected.roles.map(({ name }) => name));
  const isCaptured = (name: string | null): boolean => isBuiltIn(name) || captured.has(name ?? '');
  /** @param name what tells an entry that is altered from one that is new */
  const differences = <T extends object>(
    code: string,
    what: string,
    { wanted, live, name }: { wanted: readonly T[]; live: readonly T[]; name: (entry: T) => unknown },
  ): Finding[] => {
    const have = new Set(live.map((entry) => JSON.stringify(entry)));
    const known = new Set(wanted.map((entry) => JSON.stringify(name(entry))));
    const say = (entry: T, how: string): Finding =>
      finding('warning', code, `${what} ${JSON.stringify(entry)} ${how}`);
    return [
      ...wanted
        .filter((entry) => !have.has(JSON.stringify(entry)))
        .map((entry) => say(entry, 'is missing or differs')),
      ...live
        .filter((entry) => !known.has(JSON.stringify(name(entry))))
        .map((entry) => say(entry, 'was not captured')),
    ];
  };
  return [
    ...roles,
    ...differences('membership-differs', 'The membership', {
      wanted: expected.memberships.filter(({ role, member }) => concerns(role) && concerns(member)),
      live: found.memberships
        .filter(({ role, member }) => isCaptured(role) && isCaptured(member))
        .map((membership) => comparable(membership, expected)),
      name: ({ role, member }) => [role, member],
    }),
    ...differences('parameter-grant-differs', 'The parameter grant', {
      wanted: (expected.parameterGrants ?? []).filter(({ grantee }) => concerns(grantee)),
      live:
        expected.parameterGrants === undefined
          ? []
          : found.parameterGrants.filter(({ grantee }) => isCaptured(grantee)),
      name: ({ parameter, grantee, privilege }) => [parameter, grantee, privilege],
    }),
    ...differences('common-setting-differs', 'The setting of all roles', {
      wanted: expected.commonSettings ?? [],
      live: expected.commonSettings === undefined ? [] : found.commonSettings,
      name: (setting) => setting.name,
    }),
  ];
}

/** PUBLIC, or a role that every server has. */
const isBuiltIn = (name: string | null): boolean => name === null || name.startsWith('pg_');

/** Snapshots of older servers, and older snapshots, say less about a membership. */
function comparable(
  { role, member, admin, inherit, set }: MembershipFacts,
  { memberships }: PostgresFacts,
): MembershipFacts {
  const detailed = memberships.some((membership) => membership.inherit !== undefined);
  if (!detailed || inherit === undefined || set === undefined) return { role, member, admin };
  return { role, member, admin, inherit, set };
}

function attributesThatDiffer(expected: RoleFacts, found: RoleFacts): string[] {
  return Object.keys(expected).filter((key) => {
    const name = key as keyof RoleFacts;
    return JSON.stringify(expected[name]) !== JSON.stringify(found[name]);
  });
}
