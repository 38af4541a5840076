import { basename } from 'node:path/posix';
import { isKeyWord, namesSomething, wordsOf } from './key-words.ts';
import { redactEnv } from './env.ts';
import { replaceableLengthMin, replaceKnown, spellings } from './known.ts';
import { redactLines } from './lines.ts';
import { redactStructured } from './structured.ts';
import type { Redaction } from './text.ts';

export { placeholder } from './placeholder.ts';
export { replaceKnown, spellings } from './known.ts';

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

/** How a file is read, judged by its name. */
export function syntaxOf(name: string): 'env' | 'yaml' | 'json' | 'lines' {
  const base = basename(name).toLowerCase();
  if (/(?:^|[.\-_])env(?:\.[\w.-]+)?$|\.env$/.test(base) && !/\.(?:ya?ml|json|toml)$/.test(base))
    return 'env';
  if (/\.ya?ml$/.test(base)) return 'yaml';
  return /\.json[c5]?$/.test(base) ? 'json' : 'lines';
}

/**
 * Redacts one file: what its syntax and the names of its settings give away, what looks like a secret, and every
 * spelling of the `known` ones. The structure of `.env`, YAML and JSON stays; a text that does not parse as what its
 * name says is redacted line by line.
 */
export function redactFile(name: string, text: string, known: readonly string[]): RedactedText {
  const redaction: Redaction = { found: new Set(), known: spellings(known) };
  const result = redactBySyntax(name, text, redaction);
  return { text: result, secrets: [...redaction.found].sort() };
}

function redactBySyntax(name: string, text: string, redaction: Redaction): string {
  const syntax = syntaxOf(name);
  if (syntax === 'env') return redactEnv(text, redaction);
  if (syntax === 'lines') return redactLines(name, text, redaction);
  return redactStructured(text, syntax, redaction) ?? redactLines(name, text, redaction);
}

/**
 * Redacts files together: a secret found in any of them, or known beforehand, is replaced in all of them when it has
 * 8 characters or more and is not also the name of something (a user, a database, a service, a setting).
 */
export function redactFiles(files: readonly NamedText[], known: readonly string[]): string[] {
  const found = new Set(known);
  for (const { name, text } of files)
    for (const secret of redactFile(name, text, known).secrets) found.add(secret);
  const names = namesIn(files);
  const everywhere = [...found].filter(
    (secret) =>
      secret.length >= replaceableLengthMin && !names.has(secret) && !isKeyWord(secret.toLowerCase()),
  );
  const remaining = spellings(everywhere.filter((secret) => /[^a-z]/.test(secret)));
  return files.map(({ name, text }) => replaceKnown(redactFile(name, text, everywhere).text, remaining));
}

/** Names of settings, and the values of settings that name users, databases, hosts and services. */
function namesIn(files: readonly NamedText[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { text } of files) {
    for (const [, key = '', value = ''] of text.matchAll(
      /(?:^[ \t]*(?:-[ \t]+)?(?:export[ \t]+)?|["'{,][ \t]*)([A-Za-z_][\w.-]*)["']?[ \t]*[=:][ \t]*["']?([^"'\s,}\]]*)/gm,
    )) {
      names.add(key);
      if (namesSomething(key) && wordsOf(key).length > 0) names.add(value);
    }
    for (const [, user = '', host = '', path = ''] of text.matchAll(
      /:\/\/([\w.-]+):[^\s@/]*@([\w.-]+)(?::\d+)?(?:\/([\w-]+))?/g,
    ))
      for (const name of [user, host, path]) names.add(name);
  }
  return names;
}
