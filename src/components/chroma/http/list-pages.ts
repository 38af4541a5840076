import { TarsError } from '../../../model/errors.ts';

const listPageSize = 1000;
const listPasses = 5;

/**
 * All pages of a listing. Offsets shift when something is deleted in between, so a listing of more than one page is
 * repeated until two passes agree.
 * @param page answers a query such as `limit=1000&offset=0`
 * @param key what tells one item from another
 * @throws TarsError `capture-failed` when no two passes agree
 */
export async function listAll<T>(
  page: (query: string) => Promise<readonly T[]>,
  key: (item: T) => string,
): Promise<readonly T[]> {
  let before: string | undefined;
  for (let pass = 0; pass < listPasses; pass++) {
    const items = new Map<string, T>();
    let pages = 0;
    for (let offset = 0; ; offset += listPageSize, pages++) {
      const found = await page(`limit=${listPageSize}&offset=${offset}`);
      for (const item of found) items.set(key(item), item);
      if (found.length < listPageSize) break;
    }
    const keys = [...items.keys()].sort().join('\n');
    if (pages === 0 || keys === before) return [...items.values()];
    before = keys;
  }
  throw new TarsError('capture-failed', 'The list of collections changes faster than it can be read', {
    hint: 'Pause the services that create and delete collections, then run this again.',
  });
}
