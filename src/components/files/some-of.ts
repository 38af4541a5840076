/** Named ones, and how many more there are. */
export const someOf = (named: readonly string[], count: number): string =>
  `${named.join(', ')}${count > named.length ? ` and ${count - named.length} more` : ''}`;
