/** `1536` -> `1.5 KiB`, in the binary units restic shows. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[power] ?? 'B'}`;
}

/** `93500` -> `1 min 34 s`, `1234` -> `1.2 s`, `12` -> `12 ms`. */
export function formatMs(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  return `${Math.floor(durationMs / 60_000)} min ${Math.round((durationMs % 60_000) / 1000)} s`;
}

/**
 * Columns padded to their widest cell; the last one is left as it is, so the longest belongs there. A title that
 * begins with `>` makes its column align to the right.
 */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const titles = header.map((title) => title.replace(/^>/, ''));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const pad = (cell: string, column: number): string => {
    if (header[column]?.startsWith('>') === true) return cell.padStart(widths[column] ?? 0);
    return column === titles.length - 1 ? cell : cell.padEnd(widths[column] ?? 0);
  };
  return [titles, ...rows].map((cells) => cells.map(pad).join('  ').trimEnd()).join('\n');
}
