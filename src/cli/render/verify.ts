import { hasErrors } from '../../model/finding.ts';
import { shortId } from '../../model/snapshot.ts';
import type { VerifyResult } from '../../operations/verify/verify.ts';

/**
 * The verdict on each component, and where one differs, why that may be.
 * @param running services that may have written since the snapshot
 */
export function renderVerify(result: VerifyResult, running: readonly string[]): string {
  const hint = hasErrors(result.findings) ? [writtenSince(running)] : [];
  return [renderVerdict(result), ...hint].join('\n');
}

function renderVerdict({ snapshot, compared, findings }: VerifyResult): string {
  const wrong = (test: (code: string) => boolean): string[] =>
    compared.filter((name) =>
      findings.some(
        (f) =>
          f.severity === 'error' && test(f.code) && (f.subject === name || f.subject.startsWith(`${name}/`)),
      ),
    );
  const unread = compared.filter((name) =>
    findings.some(({ subject, code }) => subject === name && code === 'content-not-compared'),
  );
  const unknown = [...wrong((code) => code === 'verify-failed'), ...unread];
  const different = wrong((code) => code !== 'verify-failed');
  const rest = compared.filter((name) => !unknown.includes(name) && !different.includes(name));
  const isWarned = (name: string): boolean =>
    findings.some(
      ({ severity, subject }) =>
        severity === 'warning' && (subject === name || subject.startsWith(`${name}/`)),
    );
  const lines: [readonly string[], string][] = [
    [rest.filter((name) => !isWarned(name)), `as in snapshot ${shortId(snapshot)}`],
    [rest.filter(isWarned), `as in snapshot ${shortId(snapshot)}, except for the warnings above`],
    [different, `not as in snapshot ${shortId(snapshot)}`],
    [unknown, 'could not be compared'],
  ];
  return lines
    .flatMap(([names, verdict]) => (names.length === 0 ? [] : [`${names.join(', ')}: ${verdict}`]))
    .join('\n');
}

function writtenSince(running: readonly string[]): string {
  const since = 'Everything written since the snapshot is a difference too';
  if (running.length === 0) return `${since}.`;
  const names = running.join(', ');
  return `${since}, and ${names} may be writing. To know for certain, stop ${names}, then run tars backup and tars verify.`;
}
