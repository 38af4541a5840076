import { ConfigurationError, RestoreRefusedError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';
import { shortId, type SnapshotSummary } from '../../model/snapshot.ts';
import type { OperationContext } from '../../ports/context.ts';

/** A snapshot of another machine than this, which nobody has named. */
interface ForeignHost {
  readonly snapshot: string;
  readonly host: string;
  readonly own: string;
}

/** @param named the other host that the operator named, whose snapshots are not foreign then */
export function foreignHost(
  own: string,
  { id, hostname: host }: Pick<SnapshotSummary, 'id' | 'hostname'>,
  named: string | undefined,
): ForeignHost | undefined {
  return host === own || host === named ? undefined : { snapshot: shortId(id), host, own };
}

/** What a plan says of whose data it is. */
export const foreignWarnings = (foreign: ForeignHost | undefined): readonly string[] =>
  foreign === undefined
    ? []
    : [`Snapshot ${foreign.snapshot} was taken on ${foreign.host}; this is ${foreign.own}`];

function refuseForeign({ snapshot, host, own }: ForeignHost): RestoreRefusedError {
  return new RestoreRefusedError(`Snapshot ${snapshot} was taken on the host ${host}, and this is ${own}`, {
    hint: `If you want the data of ${host} here, add --from-host ${host}. If this machine replaces it for good, set host: ${host} in tars.yaml.`,
  });
}

/** Who decides about a restore. */
interface Operator {
  /** Yes was said beforehand. */
  readonly saidYes: boolean;
  /** Undefined when nobody can be asked. */
  readonly confirm: (question: string, signal: AbortSignal) => Promise<boolean | undefined>;
}

/**
 * Nothing is replaced without a yes, and data of another host only with one from somebody who has seen whose it is.
 * @param showPlan called before the question
 * @throws RestoreRefusedError on a no, and for data of another host where nobody is asked
 * @throws ConfigurationError where nobody can be asked
 */
export async function requireConsent(
  { warnings, foreign }: { readonly warnings: readonly string[]; readonly foreign: ForeignHost | undefined },
  { saidYes, confirm }: Operator,
  showPlan: () => void,
  { log, signal }: Pick<OperationContext, 'log' | 'signal'>,
): Promise<void> {
  if (saidYes) {
    if (foreign !== undefined) throw refuseForeign(foreign);
    for (const warning of warnings) log.warn(warning);
    return;
  }
  showPlan();
  const question =
    foreign === undefined ? 'Restore?' : `Restore the data of ${foreign.host} on ${foreign.own}?`;
  const answer = await confirm(question, signal);
  if (answer === undefined) {
    if (foreign !== undefined) throw refuseForeign(foreign);
    throw new ConfigurationError(
      'A restore asks before it replaces anything, and there is no terminal to ask',
      {
        hint: 'Read the plan with --dry-run, then add --yes.',
      },
    );
  }
  if (!answer) throw new RestoreRefusedError('Nothing was restored or changed, because you answered no');
}

/**
 * Whether the rest is restored although `missing` is not: the operator is shown it and asked; who said yes to all
 * beforehand has not seen it, and must have said so of this by itself.
 */
export async function acceptsMissing(
  missing: readonly Finding[],
  { saidYes, confirm }: Operator,
  { accepted, show }: { readonly accepted: boolean; readonly show: (finding: Finding) => void },
  signal: AbortSignal,
): Promise<boolean> {
  if (saidYes && !accepted) return false;
  for (const finding of missing) show(finding);
  return accepted || (await confirm('Restore everything else?', signal)) === true;
}
