import { steps, type Step } from './contestant.ts';
import type { Sample } from './rounds.ts';

/** The median of every round's figures. */
export interface Row {
  readonly step: Step;
  readonly contestant: string;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  readonly storedBytes?: number;
  /** The first contestant's figures as shares of this one's; below 1 it did better. */
  readonly ratio?: { readonly wall: number; readonly cpu: number; readonly stored?: number };
}

/** One row for each step and contestant. The first contestant is the one compared with the others. */
export function summarize(samples: readonly Sample[], contestants: readonly string[]): readonly Row[] {
  return steps.flatMap((step) => {
    const rows = contestants.flatMap((contestant) => {
      const own = samples.filter((sample) => sample.step === step && sample.contestant === contestant);
      return own.length === 0 ? [] : [medianRow(step, contestant, own)];
    });
    const ours = rows.find(({ contestant }) => contestant === contestants[0]);
    return rows.map((row) =>
      ours === undefined || row === ours ? row : { ...row, ratio: ratioOf(ours, row) },
    );
  });
}

function medianRow(step: Step, contestant: string, samples: readonly Sample[]): Row {
  const stored = samples.flatMap(({ storedBytes }) => storedBytes ?? []);
  return {
    step,
    contestant,
    wallMs: median(samples.map(({ wallMs }) => wallMs)),
    cpuMs: median(samples.map(({ cpuMs }) => cpuMs)),
    peakBytes: Math.max(...samples.map(({ peakBytes }) => peakBytes)),
    ...(stored.length === 0 ? {} : { storedBytes: median(stored) }),
  };
}

function ratioOf(ours: Row, theirs: Row): NonNullable<Row['ratio']> {
  return {
    wall: ours.wallMs / theirs.wallMs,
    cpu: ours.cpuMs / theirs.cpuMs,
    ...(ours.storedBytes === undefined || theirs.storedBytes === undefined
      ? {}
      : { stored: ours.storedBytes / theirs.storedBytes }),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const headings = ['', '', 'wall s', 'CPU s', 'peak MB', 'stored MB', 'tars: wall', 'CPU', 'stored'];

/** For people. */
export function renderTable(rows: readonly Row[]): string {
  let last: Step | undefined;
  const cells = rows.map((row) => {
    const step = row.step === last ? '' : row.step;
    last = row.step;
    const { ratio } = row;
    const times = (value: number | undefined): string => (value === undefined ? '' : `${value.toFixed(2)} x`);
    return [
      step,
      row.contestant,
      (row.wallMs / 1000).toFixed(1),
      (row.cpuMs / 1000).toFixed(1),
      (row.peakBytes / 1e6).toFixed(0),
      row.storedBytes === undefined ? '' : (row.storedBytes / 1e6).toFixed(1),
      times(ratio?.wall),
      times(ratio?.cpu),
      times(ratio?.stored),
    ];
  });
  const widths = headings.map((_, column) =>
    Math.max(...[headings, ...cells].map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [headings, ...cells].map(line).join('\n');
}
