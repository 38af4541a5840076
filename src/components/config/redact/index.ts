import { basename } from 'node:path/posix';
import { isKeyWord, namesSomething, namePattern, wordsOf } from '../../../model/secret-names.ts';
import { redactTable } from './csv.ts';
import { redactEnv } from './env.ts';
import { replaceableLengthMin, replacerOf, type Replacer } from './known.ts';
import { redactLines } from './lines.ts';
import { redactLog, redactReport } from './logs.ts';
import { redactStructured } from './structured.ts';
import { dialectOf, plainName, syntaxOf } from './syntax.ts';
import type { Redaction } from './text.ts';

export { placeholder } from './placeholder.ts';
export { syntaxOf } from './syntax.ts';

/** A file as text, under its path or name. */
interface NamedText {
  readonly name: string;
  readonly text: string;
  /** What it is, where its name does not say it: the log of a server, or a JSON document of ours. */
  readonly form?: 'log' | 'report' | undefined;
}

/** A text without its secrets, and those. */
interface RedactedText {
  readonly text: string;
  /** Every secret that was found, as it stood and, where that differs, as it is meant. */
  readonly secrets: readonly string[];
}

/**
 * Redacts one file: what its syntax and the names of its settings give away, what looks like a secret, and every
 * spelling of the `known` ones. The structure of `.env`, YAML and JSON stays; a text that does not parse as what its
 * name says is redacted line by line.
 */
export const redactFile = (name: string, text: string, known: readonly string[]): RedactedText =>
  redactKnowing({ name, text }, replacerOf(known));

function redactKnowing({ name: path, text, form }: NamedText, known: Replacer): RedactedText {
  const name = plainName(path);
  const redaction: Redaction = { found: new Set(), known, dialect: dialectOf(name, text) };
  const result =
    form === undefined ? redactBySyntax(name, text, redaction) : redactByForm[form](text, redaction);
  return { text: result, secrets: [...redaction.found].sort() };
}

const redactByForm = { log: redactLog, report: redactReport } as const;

function redactBySyntax(name: string, text: string, redaction: Redaction): string {
  const syntax = syntaxOf(name, text);
  if (syntax === 'env') return redactEnv(text, redaction);
  const table = /\.(?:csv|tsv)$/i.test(name) ? redactTable(text, redaction) : undefined;
  if (table !== undefined) return table;
  if (syntax === 'lines') return redactLines(name, text, redaction);
  const allSecret = /^secrets\.ya?ml$/.test(basename(name).toLowerCase());
  return redactStructured(text, syntax, redaction, allSecret) ?? redactLines(name, text, redaction);
}

/**
 * Redacts files together: a secret found in any of them, or known beforehand, is replaced in all of them when it has
 * 8 characters or more and is not also the name of something (a user, a database, a service, a setting, a folder).
 */
export function redactFiles(files: readonly NamedText[], known: readonly string[]): string[] {
  const steps = redactInSteps(files, known);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return [...step.value.texts];
  }
}

/** What came of files that were redacted together. */
interface RedactedTogether {
  /** In the order of the files. */
  readonly texts: readonly string[];
  /** What is replaced wherever it stands. */
  readonly secrets: readonly string[];
}

/** {@link redactFiles} file by file, so that a caller can let others have their turn in between. */
export function* redactInSteps(
  files: readonly NamedText[],
  known: readonly string[],
): Generator<undefined, RedactedTogether> {
  const found = new Set(known);
  const ofSettings = replacerOf(known);
  for (const file of files) {
    for (const secret of redactKnowing(file, ofSettings).secrets) found.add(secret);
    yield;
  }
  const names = namesIn(files.filter(({ form }) => form === undefined));
  const secrets = [...found].filter(
    (secret) =>
      secret.length >= replaceableLengthMin && !names.has(secret) && !isKeyWord(secret.toLowerCase()),
  );
  const replacer = replacerOf([...secrets, ...secrets.filter((each) => each.includes('\n')).map(inOneLine)]);
  const texts: string[] = [];
  for (const file of files) {
    texts.push(replacer.replace(redactKnowing(file, replacer).text));
    yield;
  }
  return { texts, secrets };
}

/** As logs are searched for what goes over several lines. */
const inOneLine = (secret: string): string => secret.replaceAll(/\s*\n\s*/g, '');

const setting = new RegExp(
  String.raw`(?:^[ \t]*(?:-[ \t]+)?(?:export[ \t]+)?|["'{,][ \t]*)(${namePattern})["']?[ \t]*[=:][ \t]*["']?([^"'\s,}\]]*)`,
  'gmu',
);
const address = /:\/\/([\w.-]{1,100}):[^\s@/]{0,400}@([\w.-]{1,100})(?::\d+)?(?:\/([\w-]{1,100}))?/g;
/** `/var/lib/nextcloud/data`, `ghcr.io/nextcloud/server:29` */
const path = /(?:[\w.@-]{0,60}\/){1,20}[\w.@-]{1,60}/g;

/** Names of settings, of folders and images, and the values of settings that name users, databases, hosts, services. */
function namesIn(files: readonly NamedText[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { text } of files) {
    for (const [, key = '', value = ''] of text.matchAll(setting)) {
      names.add(key);
      if (namesSomething(key) && wordsOf(key).length > 0)
        for (const name of [value, value.replace(/[:@].*$/, '')]) names.add(name);
    }
    for (const [, user = '', host = '', database = ''] of text.matchAll(address))
      for (const name of [user, host, database]) names.add(name);
    for (const [whole] of text.replace(address, ' ').matchAll(path))
      for (const name of whole.split('/')) if (isPlainWordName(name)) names.add(name);
  }
  return names;
}

/** Folders count only when they are words: a token in an address is one no less for the slashes around it. */
const isPlainWordName = (name: string): boolean => /^[a-z]+(?:[-_][a-z]+)*$/.test(name);
