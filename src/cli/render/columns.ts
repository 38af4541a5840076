import stringWidth from 'string-width';
import wrapAnsi from 'wrap-ansi';
import { visible } from './visible.ts';

/**
 * Columns padded to their widest cell, as a terminal shows it. The last one is left as it is, so the longest belongs
 * there. A title that begins with `>` makes its column align to the right. On a terminal of so many `columns` the last
 * one is folded.
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  columns = Infinity,
): string {
  const titles = header.map((title) => title.replace(/^>/, ''));
  const lines = [titles, ...rows].map((row) => row.map(visible));
  const widths = titles.map((_title, column) =>
    Math.max(...lines.map((line) => stringWidth(line[column] ?? ''))),
  );
  const pad = (cell: string, column: number): string => {
    const space = ' '.repeat((widths[column] ?? 0) - stringWidth(cell));
    return header[column]?.startsWith('>') === true ? space + cell : cell + space;
  };
  const last = titles.length - 1;
  const isRight = header[last]?.startsWith('>') === true;
  return lines
    .map((line) => {
      const head = line.slice(0, last).map((cell, column) => `${pad(cell, column)}  `);
      const cell = line[last] ?? '';
      return fold(head.join(''), isRight ? pad(cell, last) : cell, columns);
    })
    .join('\n');
}

/**
 * `text` behind `head`, folded between words so that no line is wider than `columns`, the lines below indented by
 * `indent`. A word that is too long is left whole.
 */
export function fold(head: string, text: string, columns: number, indent = stringWidth(head)): string {
  const line = `${head}${text}`.trimEnd();
  if (stringWidth(line) <= columns) return line;
  const folded = wrapAnsi(text, Math.max(1, columns - Math.max(indent, stringWidth(head))));
  return `${head}${folded.replaceAll('\n', `\n${' '.repeat(indent)}`)}`.trimEnd();
}
