import type { Finding } from '../../model/finding.ts';
import type { CommonSetting, MembershipFacts, ParameterGrant, PostgresFacts, RoleFacts } from './facts.ts';

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
  const differences = (
    code: string,
    what: string,
    wanted: readonly object[],
    live: readonly object[],
  ): Finding[] => {
    const want = new Set(wanted.map((entry) => JSON.stringify(entry)));
    const have = new Set(live.map((entry) => JSON.stringify(entry)));
    return [
      ...[...want]
        .filter((entry) => !have.has(entry))
        .map((entry) => finding('warning', code, `${what} ${entry} is missing or differs`)),
      ...[...have]
        .filter((entry) => !want.has(entry))
        .map((entry) => finding('warning', code, `${what} ${entry} was not captured`)),
    ];
  };
  return [
    ...roles,
    ...differences(
      'membership-differs',
      'The membership',
      expected.memberships.filter(({ role, member }) => concerns(role) && concerns(member)),
      found.memberships
        .filter(({ role, member }) => isCaptured(role) && isCaptured(member))
        .map((membership) => comparable(membership, expected)),
    ),
    ...differences(
      'parameter-grant-differs',
      'The parameter grant',
      (expected.parameterGrants ?? []).filter(({ grantee }) => concerns(grantee)),
      expected.parameterGrants === undefined
        ? []
        : found.parameterGrants.filter(({ grantee }) => isCaptured(grantee)),
    ),
    ...differences(
      'common-setting-differs',
      'The setting of all roles',
      expected.commonSettings ?? [],
      expected.commonSettings === undefined ? [] : found.commonSettings,
    ),
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
