import type { CommandNode, OptionNode } from './command-tree.ts';

/** What the manual says besides the command line itself. */
interface ManPageFacts {
  readonly version: string;
  /** `YYYY-MM-DD` */
  readonly date: string;
  readonly exitCodes: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<string, string>>;
}

/** The manual page of the whole program, in the macros of man(7). */
export function manPage(program: CommandNode, facts: ManPageFacts): string {
  const { name, description } = program;
  return [
    `.TH ${name.toUpperCase()} 1 ${facts.date} "${name} ${facts.version}" "User commands"`,
    '.SH NAME',
    `${name} \\- backup and recovery for self\\-hosted AI stacks`,
    '.SH SYNOPSIS',
    `.B ${name}`,
    '.I command',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    roff(description),
    '.SH COMMANDS',
    ...program.commands.flatMap((verb) => section(verb, [name])),
    '.SH "GLOBAL OPTIONS"',
    ...program.options.flatMap(option),
    ...table('EXIT STATUS', facts.exitCodes),
    ...table('ENVIRONMENT', facts.environment),
    ...table('FILES', facts.files),
    '.SH "SEE ALSO"',
    '.BR restic (1),',
    '.BR pg_restore (1),',
    '.BR redis\\-server (1),',
    '.BR age (1)',
    '',
  ].join('\n');
}

function section(verb: CommandNode, before: readonly string[]): string[] {
  const words = [...before, verb.name];
  const usage = [...words, verb.usage].filter((part) => part !== '').join(' ');
  return [
    `.SS "${roff(usage)}"`,
    sentence(verb.description),
    ...verb.options.flatMap(option),
    ...verb.notes.flatMap((paragraph) => ['.PP', sentence(paragraph)]),
    ...(verb.examples.length === 0 ? [] : ['.PP', 'Examples:', ...verbatim(verb.examples)]),
    ...verb.commands.flatMap((child) => section(child, words)),
  ];
}

const verbatim = (lines: readonly string[]): string[] => [
  '.RS 4',
  '.nf',
  ...lines.map((line) => `\\&${roff(line)}`),
  '.fi',
  '.RE',
];

const option = ({ flags, description, choices }: OptionNode): string[] => [
  '.TP',
  `\\fB${roff(flags)}\\fR`,
  sentence(choices.length === 0 ? description : `${description}: ${choices.join(', ')}`),
];

const table = (title: string, rows: Readonly<Record<string, string>>): string[] => [
  `.SH "${title}"`,
  ...Object.entries(rows).flatMap(([term, text]) => ['.TP', `\\fB${roff(term)}\\fR`, sentence(text)]),
];

function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return roff(/[.!?)]$/.test(capital) ? capital : `${capital}.`);
}

const hex = (sign: string): string => (sign.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');

/** Escapes what roff would read as its own: backslashes, hyphens that are to be copied, dots at the start of a line. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('\n', ' ')
    .replaceAll(/[^\x20-\x7e]/gu, (sign) => `\\[u${hex(sign)}]`)
    .replace(/^([.'])/, '\\&$1');
