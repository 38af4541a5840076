import { counted } from '../../model/plural.ts';
import { isIll, type Diagnosis } from '../../operations/doctor/doctor.ts';
import { formatTable } from './units.ts';

const words = { ok: 'ok', warning: 'WARN', error: 'ERROR' } as const;

/** One line for each thing found, its cure below it, and what it all comes to; for a terminal of so many `columns`. */
export function renderDiagnoses(diagnoses: readonly Diagnosis[], columns = Infinity): string {
  const rows = diagnoses.flatMap(({ check, state, found, cure }) => {
    const [first = '', ...more] = found.split('\n');
    return [
      [words[state], check, first],
      ...more.map((line) => ['', '', line]),
      ...(cure === undefined || state === 'ok' ? [] : [['', '', `> ${commandWhole(cure)}`]]),
    ];
  });
  const table = formatTable(['', 'CHECK', 'FOUND'], rows, columns);
  return `${table.replaceAll(unbreakable, ' ')}\n${verdict(diagnoses)}`;
}

/** Stands for a space where no line may be broken. */
const unbreakable = '\u00a0';

/** A cure may end with what is to be copied, after a colon and without a full stop: that is never broken. */
function commandWhole(cure: string): string {
  const colon = cure.indexOf(': ');
  if (colon === -1 || cure.endsWith('.')) return cure;
  return cure.slice(0, colon + 2) + cure.slice(colon + 2).replaceAll(' ', unbreakable);
}

function verdict(diagnoses: readonly Diagnosis[]): string {
  const count = (wanted: Diagnosis['state']): number =>
    diagnoses.filter(({ state }) => state === wanted).length;
  const warnings = count('warning') === 0 ? 'no warning' : counted(count('warning'), 'warning');
  return isIll(diagnoses)
    ? `${counted(count('error'), 'error')}, ${warnings}: a backup or a restore would fail`
    : `No error, ${warnings}: backups and restores can run`;
}
