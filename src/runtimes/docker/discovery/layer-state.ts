import { basename, dirname } from 'node:path/posix';
import { z } from 'zod';
import { throwIfAborted } from '../../../model/abort.ts';
import { isWithin } from '../../../model/captured-place.ts';
import type { NotCaptured } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { answerLimit, type Engine } from '../engine/engine.ts';
import type { ProjectContainer } from '../project/project.ts';
import { looksLikeKey } from './unheld-secrets.ts';

/** Of the Engine's answer: 0 changed, 1 added, 2 removed, since the container was created. */
const changesSchema = z.array(z.object({ Path: z.string(), Kind: z.number() })).nullable();

/** What images and their programs write at each start, and system files. */
const passing =
  /^\/(tmp|run|proc|sys|dev|etc|usr|bin|sbin|lib|lib64|boot|var\/(tmp|run|cache|log|lib\/(apt|dpkg|rpm|systemd|apk)))(\/|$)|\/(\.cache|\.npm|node_modules|__pycache__|\.venv|site-packages|logs?|cache)(\/|$)/;
const databaseName = /\.(db3?|sqlite3?|mdb|duckdb)$/i;
/** Directories that are called like what lies in them. */
const stateDirectory = /^(?:\/[^/]+){0,4}?\/(data|storage|uploads?|databases?|persist|persistence)(?=\/)/;

/** How many directories of one container are named. */
const namedMax = 5;

/**
 * Where a container keeps data or keys though nothing is mounted there: they are lost with the container. None where
 * the Engine does not say what has changed in it.
 */
export async function layerState(
  engine: Engine,
  { id, service, mounts }: Pick<ProjectContainer, 'id' | 'service' | 'mounts'>,
  ctx: OperationContext,
): Promise<readonly NotCaptured[]> {
  let changed: readonly string[];
  try {
    const answer = changesSchema.parse(await engine.getContainer(id).changes(answerLimit(ctx.signal)));
    changed = (answer ?? []).filter(({ Kind: kind }) => kind !== 2).map(({ Path: path }) => path);
  } catch {
    throwIfAborted(ctx.signal);
    return [];
  }
  return unmountedState(
    changed,
    mounts.map(({ destination }) => destination),
  ).map((directory) => ({
    subject: `${service}:${directory}`,
    reason:
      'it lies in the container itself, where nothing is mounted, and is lost when the container is removed: mount a volume there',
    status: 'missing',
  }));
}

/** The directories of `changed` files that look like data, and files that look like keys, outside of what is mounted. */
export function unmountedState(changed: readonly string[], mounted: readonly string[]): readonly string[] {
  const parents = new Set(changed.map((path) => dirname(path)));
  const files = changed.filter(
    (path) =>
      !parents.has(path) &&
      !passing.test(path) &&
      // A mount has a directory in the container, empty to whoever looks behind it.
      !mounted.some((destination) => isWithin(path, destination) || isWithin(destination, path)),
  );
  const directories = files.flatMap((path) => {
    const named = stateDirectory.exec(path)?.[0];
    if (named !== undefined) return named;
    if (databaseName.test(path)) return dirname(path);
    return looksLikeKey(dirname(path), basename(path)) ? path : [];
  });
  return [...new Set(directories)].sort().slice(0, namedMax);
}
