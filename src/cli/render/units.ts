import { formatMoment } from '../../model/calendar.ts';

export { formatBytes } from '../../model/bytes.ts';
export { formatMoment };

/** `93500` -> `1 min 34 s`, `1234` -> `1.2 s`, `12` -> `12 ms`. */
export function formatMs(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  return `${Math.floor(durationMs / 60_000)} min ${Math.round((durationMs % 60_000) / 1000)} s`;
}

/**
 * Columns padded to their widest cell; the last one is left as it is, so the longest belongs there. A title that
 * begins with `>` makes its column align to the right. On a terminal of so many `columns` the last one is broken
 * between words.
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  columns = Infinity,
): string {
  const titles = header.map((title) => title.replace(/^>/, ''));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const pad = (cell: string, column: number): string => {
    if (header[column]?.startsWith('>') === true) return cell.padStart(widths[column] ?? 0);
    return column === titles.length - 1 ? cell : cell.padEnd(widths[column] ?? 0);
  };
  const indent = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const lineOf = (cells: readonly string[]): string =>
    breakBetweenWords(cells.map(pad).join('  ').trimEnd(), indent, columns);
  return [titles, ...rows].map(lineOf).join('\n');
}

/** Breaks `line` so that it ends before `columns`, the rest indented. A word that is too long is left whole. */
export function breakBetweenWords(line: string, indent: number, columns: number): string {
  if (line.length <= columns) return line;
  const space = line.lastIndexOf(' ', columns);
  const at = space > indent ? space : line.indexOf(' ', Math.max(columns, indent));
  if (at === -1) return line;
  const rest = `${' '.repeat(indent)}${line.slice(at + 1)}`;
  return `${line.slice(0, at)}\n${breakBetweenWords(rest, indent, columns)}`;
}

/** A long time in its largest unit: `40 s`, `5 min`, `15 h`, `3 days`. */
export function formatAge(ageMs: number): string {
  const minutes = Math.floor(ageMs / 60_000);
  if (minutes < 1) return `${Math.max(0, Math.floor(ageMs / 1000))} s`;
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} days`;
}

/** When something is to run next: its moment, or that it has come. */
export function formatNext(time: Date, now: Date): string {
  return time <= now ? 'due now' : formatMoment(time);
}
