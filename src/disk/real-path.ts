import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { isMissing, whenMissing } from './is-there.ts';

/** Where `path` leads; `path` itself when nothing is there. @throws TarsError when that cannot be told */
export const realPathIfThere = (path: string): Promise<string> =>
  realpath(path).catch(whenMissing(path, `Cannot access ${path}`));

/** Where `path` leads, absolute. Links are followed as far as the path exists and this user may look. */
export async function throughLinks(path: string): Promise<string> {
  const absolute = resolve(path);
  try {
    return await realpath(absolute);
  } catch (error) {
    if (!isMissing(error) || absolute === dirname(absolute)) return absolute;
    return join(await throughLinks(dirname(absolute)), basename(absolute));
  }
}
