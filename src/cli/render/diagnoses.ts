import { counted } from '../../model/plural.ts';
import { hasErrors, type Diagnosis } from '../../operations/doctor/doctor.ts';
import { formatTable } from './columns.ts';

const words = { ok: 'ok', warning: 'WARN', error: 'ERROR' } as const;

/** One line for each thing found, its hint below it, and what it all comes to; for a terminal of so many `columns`. */
export function renderDiagnoses(diagnoses: readonly Diagnosis[], columns = Infinity): string {
  const rows = diagnoses.flatMap(({ check, state, found, hint }) => {
    const [first = '', ...more] = found.split('\n');
    return [
      [words[state], check, first],
      ...more.map((line) => ['', '', line]),
      ...(hint === undefined || state === 'ok' ? [] : [['', '', `> ${commandWhole(hint)}`]]),
    ];
  });
  const table = formatTable(['', 'CHECK', 'FOUND'], rows, columns);
  return `${table.replaceAll(unbreakable, ' ')}\n${verdict(diagnoses)}`;
}

/** Stands for a space where no line may be broken. */
const unbreakable = '\u00a0';

/** As JSON has it: release 1.0 called the hint `cure`. */
export const withCure = <Hinted extends { readonly hint?: string | undefined }>(
  found: Hinted,
): Hinted & { readonly cure: string | undefined } => ({ ...found, cure: found.hint });

/** A hint may end with what is to be copied, after a colon and without a full stop: that is never broken. */
function commandWhole(hint: string): string {
  const colon = hint.indexOf(': ');
  if (colon === -1 || hint.endsWith('.')) return hint;
  return hint.slice(0, colon + 2) + hint.slice(colon + 2).replaceAll(' ', unbreakable);
}

function verdict(diagnoses: readonly Diagnosis[]): string {
  const count = (wanted: Diagnosis['state']): number =>
    diagnoses.filter(({ state }) => state === wanted).length;
  const warnings = count('warning') === 0 ? 'no warning' : counted(count('warning'), 'warning');
  return hasErrors(diagnoses)
    ? `${counted(count('error'), 'error')}, ${warnings}: a backup or a restore would fail`
    : `No error, ${warnings}: backups and restores can run`;
}
