import { throwIfAborted } from '../../model/abort.ts';
import { TarsError } from '../../model/errors.ts';
import type { JournalledMount } from '../../ports/journal.ts';
import { planServices } from './plan.ts';
import type { Run } from './run.ts';
import type { StagedComponent } from './stage.ts';
import { startServices, waitReady } from '../services.ts';
import { mountsOfComponent } from '../backup/uncaptured.ts';

/** Stops, swaps, starts and waits for health. */
export async function swapAll(staged: readonly StagedComponent[], run: Run): Promise<void> {
  const { plan, target, ctx, entry, note } = run;
  throwIfAborted(ctx.signal);
  const services = await planServices(plan.planned, target, ctx);
  const records = [...entry().records, ...staged.map(({ staged: data }) => data.record)];
  const mounts = await journalledMounts(staged, run);
  const stopped = [...services.stop, ...services.restart];
  await note({ stopped, offline: services.offline, records, mounts });
  for (const service of services.stop) {
    ctx.log.info(`Stopping ${service}`);
    await target.runtime.stop(service, ctx);
  }
  throwIfAborted(ctx.signal);
  await note({ phase: 'swapping' });
  for (const { staged: data } of staged) {
    throwIfAborted(ctx.signal);
    await data.swap(ctx);
  }
  await requireStillDown(services.offline, run);
  // They are started with the stores.
  for (const service of services.restart) await target.runtime.stop(service, ctx);
  const servers = staged.filter(({ component }) => component.precaptures !== true);
  const stores = servicesOf(servers);
  await startServices(stores, target.runtime, ctx);
  for (const { component } of staged) await waitReady(component, target.runtime, ctx);
  // From now on what was created is started like what was stopped, whoever does it. So is a service that has nothing but
  // directories: it may write to a store at once, so it starts after the comparison. One that did not run at the capture
  // is a job, or was stopped on purpose.
  const fresh = plan.provision?.plan.start ?? [];
  const recorded = plan.manifest.compose?.services ?? [];
  const isIdle = (service: string): boolean => {
    const own = recorded.filter(({ name }) => name === service);
    return own.length > 0 && own.every(({ state }) => state === 'stopped');
  };
  const others = [...servicesOf(staged)].filter((service) => !stores.has(service) && !isIdle(service));
  await note({ phase: 'swapped', stopped: [...new Set([...stopped, ...fresh, ...others])] });
}

function servicesOf(staged: readonly StagedComponent[]): ReadonlySet<string> {
  return new Set(staged.flatMap(({ component }) => component.service ?? []));
}

/** Where the data is that is exchanged. */
async function journalledMounts(
  staged: readonly StagedComponent[],
  { target, ctx }: Run,
): Promise<readonly JournalledMount[]> {
  const all = await target.runtime.mounts(ctx);
  const found = await Promise.all(
    staged.map(async ({ component }) => {
      const mounts = await mountsOfComponent(component, all, ctx);
      return mounts.map(({ service, type, source, path, destination }) => ({
        ...{ component: component.name, service, type, source, path, destination },
      }));
    }),
  );
  return found.flat();
}

/** A server that a supervisor started meanwhile has the previous files open, and would write over the restored ones. */
async function requireStillDown(offline: readonly string[], { target, ctx }: Run): Promise<void> {
  const services = await target.runtime.discover(ctx);
  const up = services.find(({ name, state }) => offline.includes(name) && state !== 'stopped');
  if (up === undefined) return;
  throw new TarsError(
    'restore-failed',
    `${up.name} was started by another program while its data was replaced`,
    {
      hint: 'Stop the program that starts it, then run the same restore again.',
    },
  );
}
