import { createHash } from 'node:crypto';

/** One step of a recovery by hand. */
export interface RecoveryStep {
  readonly title: string;
  /** Paragraphs before the commands. */
  readonly text: readonly string[];
  /** For a POSIX shell, in this order. */
  readonly commands: readonly string[];
  /** Paragraphs after the commands. */
  readonly then?: readonly string[];
}

/** What a stranger needs to bring a stack back without tars, and the key to it. */
export interface RecoveryKit {
  readonly stack: string;
  readonly hostname: string;
  readonly toolVersion: string;
  readonly exportedAt: Date;
  readonly repository: { readonly location: string; readonly id: string };
  /** The repository's password: anyone who reads it can read everything. */
  readonly key: string;
  /** The snapshot that the steps were written from. */
  readonly snapshot: { readonly id: string; readonly time: Date; readonly partial: boolean } | undefined;
  /** What has to be known before the first step. */
  readonly remarks: readonly string[];
  readonly steps: readonly RecoveryStep[];
}

const checkLength = 8;
const columns = 78;

/** By it a mistyped key is noticed: the first digits of its SHA-256, which `sha256sum` prints as well. */
export const keyCheck = (key: string): string =>
  createHash('sha256').update(key).digest('hex').slice(0, checkLength);

const headOf = (kit: RecoveryKit): readonly (readonly [string, string])[] => [
  ['Stack', kit.stack],
  ['Exported', `${kit.exportedAt.toISOString().slice(0, 16).replace('T', ' ')} UTC on ${kit.hostname}`],
  ['Repository', kit.repository.location],
  ['Its id', kit.repository.id],
  ['Written from', snapshotOf(kit)],
  ['Recovery key', kit.key],
  ['Its check', keyCheck(kit.key)],
];

function snapshotOf({ snapshot }: RecoveryKit): string {
  if (snapshot === undefined) return 'only the configuration: there is no snapshot yet';
  const time = snapshot.time.toISOString().slice(0, 16).replace('T', ' ');
  return `snapshot ${snapshot.id.slice(0, 8)} of ${time} UTC${snapshot.partial ? ', a partial one' : ''}`;
}

const warning =
  'Anyone who has this page and the repository can read everything in the repository. Keep the page away from the ' +
  'repository and the machine, where others can find it if the machine is gone and they cannot ask you.';

/** The page as plain text, 80 columns wide but for what cannot be cut; commands are indented by four blanks. */
export function renderKitText(kit: RecoveryKit): string {
  const head = headOf(kit).map(([name, value]) => `${name.padEnd(14)}${value}`);
  const steps = kit.steps.flatMap(({ title, text, commands, then = [] }, position) => [
    '',
    `${position + 1}. ${title}`,
    ...text.flatMap((paragraph) => ['', ...wrapped(paragraph)]),
    ...(commands.length === 0 ? [] : ['', ...commands.flatMap((command) => indented(command))]),
    ...then.flatMap((paragraph) => ['', ...wrapped(paragraph)]),
  ]);
  const lines = [
    `RECOVERY KIT (tars ${kit.toolVersion})`,
    '',
    ...head,
    '',
    ...wrapped(warning),
    ...kit.remarks.flatMap((remark) => ['', ...wrapped(remark)]),
    ...steps,
  ];
  return `${lines.join('\n')}\n`;
}

function wrapped(paragraph: string): string[] {
  const lines = [''];
  for (const word of paragraph.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line === '') lines[lines.length - 1] = word;
    else if (line.length + word.length < columns) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const indentation = '    ';

/** A command over several lines where it is long, broken between its words. */
function indented(command: string): string[] {
  const lines = [''];
  for (const word of command.match(/(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\])+/g) ?? []) {
    const line = lines.at(-1) ?? '';
    if (line === '') lines[lines.length - 1] = word;
    else if (indentation.length + line.length + word.length + 3 < columns)
      lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(`  ${word}`);
  }
  return lines.map((line, position) => `${indentation}${line}${position < lines.length - 1 ? ' \\' : ''}`);
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The page as one HTML file that needs no other, for printing on A4. */
export function renderKitHtml(kit: RecoveryKit): string {
  const paragraphs = (texts: readonly string[]): string =>
    texts.map((text) => `<p>${escaped(text)}</p>\n`).join('');
  const head = headOf(kit)
    .map(([name, value]) => `<tr><th>${escaped(name)}</th><td><code>${escaped(value)}</code></td></tr>\n`)
    .join('');
  const steps = kit.steps
    .map(({ title, text, commands, then = [] }) => {
      const block = commands.length === 0 ? '' : `<pre>${escaped(commands.join('\n'))}</pre>\n`;
      return `<li><h2>${escaped(title)}</h2>\n${paragraphs(text)}${block}${paragraphs(then)}</li>\n`;
    })
    .join('');
  const title = `Recovery kit of ${escaped(kit.stack)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title}</title>
<style>
@page { size: A4; margin: 18mm }
body { font: 10.5pt/1.4 serif; max-width: 48em; margin: auto }
h1 { font-size: 16pt } h2 { font-size: 12pt; margin: 1em 0 0.3em }
th { text-align: left; vertical-align: top; padding-right: 1em }
code, pre { font: 9.5pt/1.4 monospace; overflow-wrap: anywhere; white-space: pre-wrap }
pre { border-left: 2pt solid; padding-left: 0.8em }
li { break-inside: avoid }
</style>
</head>
<body>
<h1>${title}</h1>
<table>
${head}</table>
${paragraphs([warning, ...kit.remarks])}<ol>
${steps}</ol>
<p>tars ${escaped(kit.toolVersion)}</p>
</body>
</html>
`;
}
