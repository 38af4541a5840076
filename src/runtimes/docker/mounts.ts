import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { OperationContext } from '../../ports/context.ts';
import type { EngineAddress, ServiceMount } from '../../ports/runtime.ts';
import type { ProjectContainer } from './project.ts';

/** Beyond that, finding out a directory's size is not cheap any more. */
const entriesMax = 10_000;
const measureMaxMs = 2000;

/** Volumes and directories that containers have from outside, once for each service. */
export function mountsOf(
  containers: readonly Pick<ProjectContainer, 'service' | 'mounts'>[],
  { host }: EngineAddress,
): readonly ServiceMount[] {
  const isHere = host.startsWith('unix:') || host.startsWith('/');
  const found = new Map<string, ServiceMount>();
  for (const { service, mounts } of containers) {
    for (const { type, volume, source: path, destination } of mounts) {
      if (type === 'tmpfs') continue;
      const mount: ServiceMount = {
        ...{ service, type, path, destination },
        source: volume ?? path,
        measure: (ctx) => (isHere && path !== '' ? sizeOf(path, ctx) : Promise.resolve(undefined)),
      };
      found.set(JSON.stringify([service, destination, path]), mount);
    }
  }
  return [...found.values()];
}

/** Bytes of all files at and below `path`; undefined when they are many, slow to count or not to be looked at. */
async function sizeOf(path: string, { signal, clock }: OperationContext): Promise<number | undefined> {
  const endMs = clock.monotonicMs() + measureMaxMs;
  const queue = [path];
  let entries = 0;
  let sizeBytes = 0;
  try {
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      signal.throwIfAborted();
      if (++entries > entriesMax || clock.monotonicMs() > endMs) return undefined;
      const stats = await lstat(next);
      if (stats.isFile()) sizeBytes += stats.size;
      else if (stats.isDirectory()) {
        const names = await readdir(next);
        if (entries + queue.length + names.length > entriesMax) return undefined;
        for (const name of names) queue.push(join(next, name));
      }
    }
    return sizeBytes;
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}
