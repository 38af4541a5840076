/** `1 table`, `2 tables`; a noun of another plural gives it. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}

/** Named ones, and how many more there are. */
export const someOf = (named: readonly string[], count: number): string =>
  `${named.join(', ')}${count > named.length ? ` and ${count - named.length} more` : ''}`;
