import { ServiceUnavailableError, toTarsError } from '../../model/errors.ts';
import { formatBytes } from '../../model/bytes.ts';
import type { ComponentManifest, Manifest, NotCaptured } from '../../model/manifest.ts';
import { counted, someOf } from '../../model/plural.ts';
import type { ArtifactSource } from '../../ports/artifacts.ts';
import type { Component, ComponentProbe } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { PlacesSlot } from '../../ports/kind.ts';
import type { RestoreJournal, RestoreOrigin } from '../../ports/journal.ts';
import type { PlaceNote } from '../../ports/place-notes.ts';
import type { Provisioner } from '../../ports/provisioner.ts';
import type { Runtime, Service } from '../../ports/runtime.ts';
import { describeUndeclared, sortWriters } from '../backup/cut.ts';
import { error, ok, once, warning, type HealthCheck, type Outcome } from './doctor.ts';
import { describeBeside, isRestoreOf } from '../restore/recover.ts';
import { requireSpace } from '../space.ts';
import { isUnknown, leftOutPlaces, uncapturedMounts } from '../backup/uncaptured.ts';

/** A component that is composed by itself, so that what is wrong with one says nothing of the others. */
export interface ExaminedComponent {
  readonly name: string;
  readonly kind: string;
  readonly service: string | undefined;
  /** See `PlacesSlot.scratch`. */
  readonly scratch?: PlacesSlot<never>['scratch'];
  /** It captures the configuration of the stack, which has checks of its own. */
  readonly isConfiguration?: boolean;
  /** @throws TarsError when its secrets cannot be read */
  readonly open: (ctx: OperationContext) => Promise<Component>;
  readonly probe: (ctx: OperationContext) => Promise<ComponentProbe>;
}

/** {@link ExaminedComponent} around what composes it. */
export function examined(
  component: Omit<ExaminedComponent, 'open' | 'probe'>,
  compose: () => Promise<Component>,
): ExaminedComponent {
  const open = once(compose);
  const probe = once(async (ctx) => (await open(ctx)).probe(ctx));
  return { ...component, open, probe };
}

/** What the checks of a stack examine at. */
export interface StackUnderExamination {
  readonly stack: string;
  /** What its restores belong to. */
  readonly origin?: RestoreOrigin | undefined;
  readonly components: readonly ExaminedComponent[];
  readonly journal: RestoreJournal;
  /** Undefined for plain processes. */
  readonly provisioner?: Pick<Provisioner, 'shellVariables'> | undefined;
  /** Whether configuration is captured, with its secrets. */
  readonly keepsConfiguration: boolean;
  /** What is known of places that no component captures, and data that lies in no place. */
  readonly placeNotes?: readonly PlaceNote[];
  readonly atRisk?: readonly NotCaptured[];
  /** Names of keys and passwords of the applications that no component holds. */
  readonly unheldSecrets?: (ctx: OperationContext) => Promise<readonly string[]>;
  readonly runtime: (ctx: OperationContext) => Promise<Runtime>;
  readonly services: (ctx: OperationContext) => Promise<readonly Service[]>;
  /** Of the stack's newest snapshot; undefined when there is none, or the repository does not open. */
  readonly lastManifest: (ctx: OperationContext) => Promise<Manifest | undefined>;
  /** The same snapshot, read without a lock. */
  readonly lastSnapshot: (ctx: OperationContext) => Promise<ArtifactSource | undefined>;
}

/** Stores, services, the cut, and whether the last snapshot would restore. */
export function stackChecks(stack: StackUnderExamination): readonly HealthCheck[] {
  return [
    ...stack.components.map((component) => ({
      name: `store ${component.name}`,
      examine: (ctx: OperationContext) => lookAtStore(component, stack, ctx),
    })),
    { name: 'services', examine: (ctx) => lookAtServices(stack, ctx) },
    { name: 'cut', follows: true, examine: (ctx) => lookAtCut(stack, ctx) },
    { name: 'left out', follows: true, examine: (ctx) => lookForLeftOut(stack, ctx) },
    { name: 'not captured', follows: true, examine: (ctx) => lookForUncaptured(stack, ctx) },
    { name: 'application secrets', follows: true, examine: (ctx) => lookForSecrets(stack, ctx) },
    { name: 'restore', follows: true, examine: (ctx) => lookAtRestore(stack, ctx) },
    { name: 'variables', examine: (ctx) => lookAtVariables(stack, ctx) },
    { name: 'leftovers', follows: true, examine: (ctx) => lookForLeftovers(stack, ctx) },
    { name: 'unfinished restore', examine: (ctx) => lookForUnfinished(stack, ctx) },
  ];
}

async function lookAtStore(
  { isConfiguration, service, probe }: ExaminedComponent,
  stack: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  // The check of the services says it once for all.
  if (service !== undefined && (await isNothingLeft(stack, ctx))) return [];
  const { serverVersion, summary, sizeBytes, warnings } = await probe(ctx);
  const version = serverVersion === undefined ? '' : `${serverVersion}: `;
  return [
    ok(`${version}${summary}, ${formatBytes(sizeBytes)}`),
    // Of configuration files, other checks say the same and what to do.
    ...(isConfiguration === true ? [] : warnings.map((text) => warning(text))),
  ];
}

/** Whether the whole stack is gone, as after a disk that died: none of its services is there. */
async function isNothingLeft(
  { components, services }: Pick<StackUnderExamination, 'components' | 'services'>,
  ctx: OperationContext,
): Promise<boolean> {
  if (!components.some(({ service }) => service !== undefined)) return false;
  // Where that cannot be found out, the check of the services says why.
  const found = await services(ctx).catch(() => undefined);
  return found?.every(({ missing }) => missing === true) === true;
}

async function lookAtServices(
  stack: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const { components, services, lastManifest } = stack;
  const found = await services(ctx);
  if (await isNothingLeft(stack, ctx)) return [nothingLeft(await lastManifest(ctx))];
  const known = new Set(found.filter(({ missing }) => missing !== true).map(({ name }) => name));
  const needed = components.flatMap(({ name, service }) =>
    service === undefined || known.has(service) ? [] : [{ name, service }],
  );
  const taken = new Set(needed.map(({ service }) => service));
  const unhealthy = found.filter((service) => service.unhealthy === true);
  const misnamed = found.filter(({ name, missing }) => missing === true && !taken.has(name));
  return [
    ...needed.map(({ name, service }) =>
      error(
        `There is no service ${service}, which ${name} names`,
        'If it was removed, create it again or run tars restore. Otherwise correct its service: in tars.yaml.',
      ),
    ),
    ...misnamed.map(({ name }) =>
      warning(`There is no service ${name}, which tars.yaml names`, 'Correct its name under services.'),
    ),
    ...unhealthy.map(({ name }) =>
      warning(
        `${name} runs and is unhealthy, as its own health check says`,
        'Read its log, and check the health check itself, which may test the wrong thing.',
      ),
    ),
    ...(known.size === 0 ? [] : [judgedStates(found)]),
  ];
}

const nothingLeft = (last: Manifest | undefined): Outcome =>
  last === undefined
    ? error(
        'Nothing is left of the stack: none of its services exists, and no snapshot of it can be read',
        'Start the services, or correct the services and the repository in tars.yaml.',
      )
    : error(
        `Nothing is left of the stack: none of its services exists. The snapshot of ${last.time} holds ${last.components
          .filter(({ outcome }) => outcome === 'captured')
          .map(({ name }) => name)
          .join(', ')}`,
        'Run tars restore: it creates the services and restores their data. If they run in another place, correct tars.yaml.',
      );

/** What nobody knows to run is no good news. */
function judgedStates(found: readonly Service[]): Outcome {
  const unknown = found.filter(({ state, missing }) => state === 'unknown' && missing !== true);
  if (unknown.length === 0) return ok(statesOf(found));
  return warning(
    statesOf(found),
    `Find out whether ${unknown.map(({ name }) => name).join(', ')} runs: read its log. A process needs a pid_file, a status or a systemd_unit under services in tars.yaml.`,
  );
}

function statesOf(services: readonly Service[]): string {
  const there = services.filter(({ missing }) => missing !== true);
  const down = there.filter(({ state }) => state !== 'running');
  const rest = down.map(
    ({ name, state }) => `${name} is ${state === 'unknown' ? 'in an unknown state' : state}`,
  );
  const unhealthy = there.filter((service) => service.unhealthy === true).length;
  const health = unhealthy === 0 ? [] : [`${unhealthy} of them ${unhealthy === 1 ? 'is' : 'are'} unhealthy`];
  const run = `${there.length - down.length} of ${counted(there.length, 'service')} run`;
  return [run, ...health, ...rest].join('; ');
}

async function lookAtCut(stack: StackUnderExamination, ctx: OperationContext): Promise<readonly Outcome[]> {
  const { components, services, lastManifest } = stack;
  if (components.length < 2 || (await isNothingLeft(stack, ctx))) return [];
  // What they cannot be found out for, their own check says.
  const found = await services(ctx).catch(() => undefined);
  if (found === undefined) return [];
  const { pausable, idle, free, undeclared } = sortWriters(found);
  if (undeclared.length > 0)
    return [
      warning(
        `${describeUndeclared(undeclared)} may write while the stores are fixed, so each store is captured at its own moment`,
        'Say under services in tars.yaml whether it does: writer: true, or writer: false.',
      ),
    ];
  if (free.length > 0)
    return [
      warning(
        `${free.join(', ')} cannot be paused, so each store is captured at its own moment`,
        'Give it a pid_file, or pause and resume, under services in tars.yaml.',
      ),
    ];
  if (pausable.length + idle.length === 0)
    return [
      warning(
        'No service is marked as a writer, so each store is captured at its own moment',
        'Set writer: true for the services that write to the stores, under services in tars.yaml.',
      ),
    ];
  const last = await lastManifest(ctx);
  const good = ok(
    [
      ...(pausable.length === 0 ? [] : [`${pausable.join(', ')} will be paused while all stores are fixed`]),
      ...(idle.length === 0 ? [] : [`${idle.join(', ')} does not run and needs no pause`]),
    ].join('; '),
  );
  if (last?.consistency !== 'per-store') return [good];
  return [
    good,
    warning(`The last snapshot is not of one moment: ${last.consistencyReason ?? 'no reason is recorded'}`),
  ];
}

async function lookForLeftOut(
  { components }: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const places = await leftOutPlaces(await openedOf(components, ctx), ctx);
  return places.map(({ subject, reason }) => ok(`${subject} is never captured: ${reason}`));
}

/** Those that can be composed; of the others their own check says what is wrong. */
async function openedOf(
  components: readonly ExaminedComponent[],
  ctx: OperationContext,
): Promise<readonly Component[]> {
  const opened = await Promise.allSettled(components.map(({ open }) => open(ctx)));
  return opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

async function lookForUncaptured(
  { components, runtime, placeNotes, atRisk = [] }: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const good = await openedOf(components, ctx);
  // Its warning would be said twice.
  const quiet = { ...ctx, log: { ...ctx.log, warn: () => undefined } };
  const question = { components: good, runtime: await runtime(ctx), placeNotes };
  const mounts = [...(await uncapturedMounts(question, quiet)), ...atRisk].filter(
    ({ status }) => status !== 'left-out',
  );
  if (mounts.length === 0) return [];
  const unknown = mounts.find(isUnknown);
  if (unknown !== undefined)
    return [warning(`Data that services keep outside the stores: ${unknown.reason}`)];
  const list = mounts.map(({ subject, sizeBytes }) =>
    sizeBytes === undefined ? subject : `${subject} (${formatBytes(sizeBytes)})`,
  );
  return [
    warning(
      `No component captures ${list.join(', ')}`,
      'Add a component of kind files for everything that a restore should create again. List under leave_out in tars.yaml what need not come back.',
    ),
  ];
}

/** How many secrets are named. */
const secretsMax = 10;

async function lookForSecrets(
  { unheldSecrets }: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const names = (await unheldSecrets?.(ctx)) ?? [];
  if (names.length === 0) return [];
  return [
    warning(
      `No component holds ${someOf(names.slice(0, secretsMax), names.length)}: a restored application may not be able to read its own data`,
      'Put a variable into a file that the Compose file names, and list files under files: of the config component in tars.yaml.',
    ),
  ];
}

/** What the newest snapshot holds is planned as a restore would; plans touch nothing. */
async function lookAtRestore(
  stack: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const { lastManifest, lastSnapshot } = stack;
  // What has no service yet is created by the restore, and cannot be looked at before.
  const gone = await isNothingLeft(stack, ctx);
  const components = stack.components.filter(({ service }) => !gone || service === undefined);
  const [last, source] = [await lastManifest(ctx), await lastSnapshot(ctx)];
  if (last === undefined || source === undefined) return [];
  const captured = last.components.filter(({ outcome }) => outcome === 'captured');
  const planned = await Promise.all(
    components.map(async (component) => {
      const from = captured.find(({ name }) => name === component.name);
      return { component, from, problem: from && (await refusalOf(component, from, source, ctx)) };
    }),
  );
  const would = planned.filter(({ from, problem }) => from !== undefined && problem === undefined);
  return [
    ...planned.flatMap(({ problem }) => problem ?? []),
    ...(would.length === 0
      ? []
      : [
          ok(
            `The snapshot of ${last.time} could be restored here: ${would.map((p) => p.component.name).join(', ')}`,
          ),
        ]),
  ];
}

async function refusalOf(
  { open, name }: ExaminedComponent,
  from: ComponentManifest,
  source: ArtifactSource,
  ctx: OperationContext,
): Promise<Outcome | undefined> {
  try {
    const component = await open(ctx);
    const options = { restoreConfig: true, restoreId: 'doctor' };
    const { plan } = await component.planRestore(from, options, ctx, source);
    await requireSpace(plan.space);
    return undefined;
  } catch (cause) {
    const { message, hint } = toTarsError(cause, `The restore of ${name} cannot be planned`);
    // A store that does not answer is said once, as such; a restore would start it.
    if (cause instanceof ServiceUnavailableError)
      return warning(`${name}: it is unknown whether it could be restored`);
    return error(
      message,
      hint ?? `Fix that before you need a restore. For details, run tars restore --dry-run.`,
    );
  }
}

async function lookAtVariables(
  { provisioner, keepsConfiguration }: StackUnderExamination,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const { variables } = (await provisioner?.shellVariables(ctx)) ?? { variables: [] };
  // What containers show is captured with the configuration, where that is kept with its secrets.
  const names = variables
    .filter(({ value }) => value === undefined || !keepsConfiguration)
    .map(({ name }) => name);
  if (names.length === 0) return [];
  return [
    warning(
      `The Compose files use ${names.join(', ')}, which only a shell defined: a restore onto an empty machine would not have ${names.length === 1 ? 'it' : 'them'}`,
      `Put ${names.length === 1 ? 'it' : 'them'} into .env beside the Compose file, and capture that file.`,
    ),
  ];
}

/** Previous data that nobody discarded, and what a killed restore staged. What is under way is none. */
export async function lookForLeftovers(
  { components, journal }: Pick<StackUnderExamination, 'components' | 'journal'>,
  ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const pending = (await journal.pending()).map(({ entry }) => entry.restoreId);
  const found = await Promise.allSettled(
    components.map(async ({ name, open }) =>
      ((await (await open(ctx)).leftovers?.(ctx)) ?? []).map((leftover) => ({ name, ...leftover })),
    ),
  );
  return found
    .flatMap((result) => (result.status === 'fulfilled' ? result.value : []))
    .filter(({ what }) => !pending.some((id) => what.includes(id)))
    .map(({ name, what, sizeBytes, remove }) => {
      const size = sizeBytes === undefined ? '' : ` (${formatBytes(sizeBytes)})`;
      return warning(
        `${name}: a restore left ${what}${size}`,
        `If you no longer need it, remove it: ${remove}`,
      );
    });
}

async function lookForUnfinished(
  { stack, origin, journal }: StackUnderExamination,
  _ctx: OperationContext,
): Promise<readonly Outcome[]> {
  const own = { stack, origin };
  return (await journal.pending()).flatMap(({ entry, alive }): readonly Outcome[] => {
    const { restoreId, startedAt } = entry;
    const beside = describeBeside(entry, own);
    if (beside === undefined && !isRestoreOf(entry, own)) return [];
    if (alive)
      return [warning(`Restore ${restoreId} has been running since ${startedAt}`, 'Wait for it to end.')];
    if (beside !== undefined) return [warning(beside.found, beside.hint)];
    return [
      error(
        `Restore ${restoreId} of ${startedAt} was interrupted`,
        'Run any other verb, such as tars snapshots: it recovers the restore first.',
      ),
    ];
  });
}
