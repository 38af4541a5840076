import { counted } from '../../model/plural.ts';
import { isIll, type Diagnosis } from '../../operations/doctor.ts';
import { formatTable } from './units.ts';

const words = { ok: 'ok', warning: 'WARN', error: 'ERROR' } as const;

/** One line for each thing found, its cure below it, and what it all comes to; for a terminal of so many `columns`. */
export function renderDiagnoses(diagnoses: readonly Diagnosis[], columns = Infinity): string {
  const rows = diagnoses.flatMap(({ check, state, found, cure }) => {
    const [first = '', ...more] = found.split('\n');
    return [
      [words[state], check, first],
      ...more.map((line) => ['', '', line]),
      ...(cure === undefined || state === 'ok' ? [] : [['', '', `> ${cure}`]]),
    ];
  });
  // A cure may end with a command to be copied, after a colon.
  const columnsFor = (cell: string): number => (/^> .*: /.test(cell) ? Infinity : columns);
  return `${formatTable(['', 'CHECK', 'FOUND'], rows, columnsFor)}\n${verdict(diagnoses)}`;
}

function verdict(diagnoses: readonly Diagnosis[]): string {
  const count = (wanted: Diagnosis['state']): number =>
    diagnoses.filter(({ state }) => state === wanted).length;
  const warnings = count('warning') === 0 ? 'no warning' : counted(count('warning'), 'warning');
  return isIll(diagnoses)
    ? `${counted(count('error'), 'error')}, ${warnings}: a backup or a restore would fail`
    : `No error, ${warnings}: backups and restores can run`;
}
