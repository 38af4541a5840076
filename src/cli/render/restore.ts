import { artifactTotals } from '../../model/artifact-list.ts';
import { counted } from '../../model/plural.ts';
import { shortId } from '../../model/snapshot.ts';
import type { StackRestorePlan } from '../../operations/restore/plan.ts';
import type { RestoreResult } from '../../operations/restore/restore.ts';
import { fold } from './columns.ts';
import { formatBytes, formatMs } from './units.ts';

/** A plan as JSON has it. */
export function planValue(plan: StackRestorePlan): unknown {
  const { manifest, planned, provision, ...rest } = plan;
  return {
    ...rest,
    provision: provision?.plan,
    hostname: manifest.hostname,
    time: manifest.time,
    consistency: manifest.consistency,
    components: planned.map(({ plan: shown }) => shown),
  };
}

/** On a terminal of so many `columns`, lines are folded between words. */
export function renderPlan(plan: StackRestorePlan, columns = Infinity): string {
  return planLines(plan)
    .map((line) => {
      const head = /^ *(?:- )?/.exec(line)?.[0] ?? '';
      const indent = head.endsWith('- ') ? head.length : head.length + 2;
      return fold(head, line.slice(head.length), columns, indent);
    })
    .join('\n');
}

function planLines(plan: StackRestorePlan): readonly string[] {
  return [
    `Restore snapshot ${shortId(plan.snapshot)} of ${plan.manifest.stack} on ${plan.manifest.hostname}, taken ${plan.manifest.time}`,
    `  verify ${counted(plan.artifacts.count, 'artifact')} (${formatBytes(plan.artifacts.sizeBytes)}) before anything is changed`,
    ...renderProvision(plan),
    ...plan.planned.flatMap(({ component, plan: { steps } }) => [
      `  ${component.name}:`,
      ...(steps.length === 0 ? ['Nothing to do'] : steps).map((step) => `    - ${step}`),
    ]),
    `  stop for the swap: ${plan.stop.join(', ') || 'nothing'}; then start: ${plan.start.join(', ') || 'nothing'}`,
    ...(plan.restart.length === 0 ? [] : [`  restart after the swap: ${plan.restart.join(', ')}`]),
    ...plan.warnings.map((warning) => `  Warning: ${warning}`),
  ];
}

/** What is created comes after the files and before the stores. */
function renderProvision({ provision }: StackRestorePlan): string[] {
  if (provision?.plan.needed !== true) return [];
  const { plan, later } = provision;
  return [
    `  project ${plan.project}, after its files are in place:`,
    ...plan.steps.map((step) => `    - ${step}`),
    ...later.map((component) => {
      const { count, sizeBytes } = artifactTotals(component);
      return `    - Restore ${component.name} into its new container (${counted(count, 'artifact')}, ${formatBytes(sizeBytes)})`;
    }),
    '    - Start the services in the order of their dependencies, wait until they are ready, and compare with the snapshot',
    '    - If anything fails, remove again what was created',
  ];
}

/** What became of the restore, and how to undo it. */
export function renderResult(result: RestoreResult): string {
  const errors = result.findings.filter(({ severity }) => severity === 'error');
  const unwell = errors.filter(({ code }) => code.startsWith('service-')).map(({ subject }) => subject);
  const verdict = errors.some(({ code }) => !code.startsWith('service-'))
    ? 'Restored, but the content differs from what was captured: see the errors above'
    : unwell.length > 0
      ? `Restored, but unhealthy: ${[...new Set(unwell)].join(', ')}; see the errors above`
      : result.missing.length > 0
        ? `Restored without ${counted(result.missing.length, 'part')} of the snapshot that the server refused (named above): ${result.restored.join(', ')}`
        : `Restored${result.validated ? ' and verified' : ', not compared with the snapshot'}: ${result.restored.join(', ')}`;
  return [
    `${verdict} (snapshot ${shortId(result.snapshot)}, ${formatMs(result.durationMs)})`,
    ...(result.notStarted.length === 0
      ? []
      : [`Not started, because they did not run before: ${result.notStarted.join(', ')}`]),
    ...renderWayBack(result),
  ].join('\n');
}

function renderWayBack({ wayBack, wayBackFile, byHand }: RestoreResult): string[] {
  const before = { component: 'stop the services that write', lines: byHand?.stop ?? [] };
  const after = { component: 'start them again', lines: byHand?.start ?? [] };
  if (wayBack.every(({ lines }) => lines.length === 0)) return [];
  const moved = [before, ...wayBack, after].filter(({ lines }) => lines.length > 0);
  if (wayBackFile === undefined) return [];
  return [
    'The previous data was moved aside. To undo the restore, run these lines. They are also in',
    `${wayBackFile}:`,
    ...moved.flatMap(({ component, lines }) => [`  ${component}:`, ...lines.map((line) => `    ${line}`)]),
  ];
}
