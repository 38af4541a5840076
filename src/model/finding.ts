/** Something a check or a verification noticed. `error` means data is wrong or missing. */
export interface Finding {
  readonly severity: 'error' | 'warning' | 'info';
  /** The component, artifact or repository file concerned, such as `postgres` or `data/ab/abcd…`. */
  readonly subject: string;
  /** Stable and machine-readable, such as `row-count-differs`, `pack-damaged`, `lock-stale`. */
  readonly code: string;
  /** One sentence for a person: what was expected, what was found. */
  readonly message: string;
  /** An error of a restore that loses a part of the snapshot and nothing else: the operator may restore without it. */
  readonly acceptable?: true;
}

/** One line for a person; the part of the subject that the message names is not said twice. */
export function describeFinding({ subject, message }: Finding): string {
  const [component = '', ...rest] = subject.split('/');
  const part = rest.join('/');
  return `${part !== '' && message.includes(part) ? component : subject}: ${message}`;
}

/** True when any finding is an error. */
export function hasErrors(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.severity === 'error');
}
