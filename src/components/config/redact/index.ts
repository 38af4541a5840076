import { basename } from 'node:path/posix';
import { isKeyWord, namesSomething, namePattern, wordsOf } from '../../../model/secret-names.ts';
import { redactEnv } from './env.ts';
import { replaceableLengthMin, replacerOf, type Replacer } from './known.ts';
import { redactLines } from './lines.ts';
import { redactStructured } from './structured.ts';
import { dialectOf, plainName, syntaxOf } from './syntax.ts';
import type { Redaction } from './text.ts';

export { placeholder } from './placeholder.ts';
export { syntaxOf } from './syntax.ts';

/** A file as text, under its path or name. */
export interface NamedText {
  readonly name: string;
  readonly text: string;
}

/** A text without its secrets, and those. */
export interface RedactedText {
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
  redactKnowing(name, text, replacerOf(known));

function redactKnowing(path: string, text: string, known: Replacer): RedactedText {
  const name = plainName(path);
  const redaction: Redaction = { found: new Set(), known, dialect: dialectOf(name, text) };
  const result = redactBySyntax(name, text, redaction);
  return { text: result, secrets: [...redaction.found].sort() };
}

function redactBySyntax(name: string, text: string, redaction: Redaction): string {
  const syntax = syntaxOf(name, text);
  if (syntax === 'env') return redactEnv(text, redaction);
  if (syntax === 'lines') return redactLines(name, text, redaction);
  const allSecret = /^secrets\.ya?ml$/.test(basename(name).toLowerCase());
  return redactStructured(text, syntax, redaction, allSecret) ?? redactLines(name, text, redaction);
}

/**
 * Redacts files together: a secret found in any of them, or known beforehand, is replaced in all of them when it has
 * 8 characters or more and is not also the name of something (a user, a database, a service, a setting, a folder).
 */
export function redactFiles(files: readonly NamedText[], known: readonly string[]): string[] {
  const found = new Set(known);
  const ofSettings = replacerOf(known);
  for (const { name, text } of files)
    for (const secret of redactKnowing(name, text, ofSettings).secrets) found.add(secret);
  const names = namesIn(files);
  const everywhere = [...found].filter(
    (secret) =>
      secret.length >= replaceableLengthMin && !names.has(secret) && !isKeyWord(secret.toLowerCase()),
  );
  const replacer = replacerOf(everywhere);
  return files.map(({ name, text }) => replacer.replace(redactKnowing(name, text, replacer).text));
}

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
