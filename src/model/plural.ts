/** `1 table`, `2 tables`; a noun of another plural gives it. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`;
}
