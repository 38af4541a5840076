/** `wanted` in the letters that components may be called with. */
export const componentName = (wanted: string): string =>
  wanted
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]+/g, '-')
    .replace(/^[_-]+/, '')
    .replace(/-+$/, '') || 'store';

/** The first of `name`, `name-2`, `name-3` … that is not `taken`; it is taken from then on. */
export function freeName(name: string, taken: Set<string>): string {
  let free = name;
  for (let number = 2; taken.has(free); number++) free = `${name}-${number}`;
  taken.add(free);
  return free;
}
