import { suspicionOf } from './secret-names.ts';

/** Stands for a secret in messages. */
const hiddenSecret = '***';

/**
 * Replaces secrets in a message by `***`, and nothing else: a short one, or one that is a plain word such as the name
 * of the product, only where it stands as a value (`password=tars`, `//user:tars@host`), because the same word also is
 * a part of paths, users, databases and services.
 */
export function hideSecrets(text: string, secrets: Iterable<string>): string {
  const longestFirst = [...new Set(secrets)].filter((secret) => secret !== '');
  return longestFirst
    .sort((a, b) => b.length - a.length)
    .reduce(
      (shown, secret) =>
        isUnmistakable(secret)
          ? shown.replaceAll(secret, hiddenSecret)
          : shown.replace(asValue(secret), (_, before: string) => `${before}${hiddenSecret}`),
      text,
    );
}

/** Has signs in it that names do not have, or is long and neither words nor a number. */
function isUnmistakable(secret: string): boolean {
  if (/[^\w./-]/.test(secret.trim())) return secret.length >= 4;
  return (
    secret.length >= 8 && !/^\d+$/.test(secret) && !/^[A-Za-z]?[a-z]*(?:[-_./][a-z]+)*\d{0,2}$/.test(secret)
  );
}

/** After the name of a secret, or between the colon and the `@` of an address. */
function asValue(secret: string): RegExp {
  const literal = secret.replaceAll(/[.*+?^${}()|[\]\\/-]/g, '\\$&');
  const named = String.raw`(?:pass\w{0,40}|pwd|pw|secret|token|key|auth|credentials?)["']?(?:\s?[=:]\s?|\s)["']?`;
  return new RegExp(String.raw`(${named}|:\/\/[^\s:@/]{0,80}:(?=[^\s@]{1,200}@))${literal}(?![\w-])`, 'gi');
}

/**
 * The secrets among the lines of an environment or a `.env` file: values whose names say so, with and without quotes,
 * and passwords in addresses. A line that sets nothing counts as one: a program may quote it because it cannot read it.
 * A container without an environment has none.
 */
export function secretsOfEnvironment(lines: readonly string[] | null): string[] {
  return (lines ?? []).flatMap((line) => {
    const [head, name = ''] = /^\s*(?:export\s+)?([\w.-]{1,80})\s*=\s*/.exec(line) ?? [];
    if (head === undefined) return line.startsWith('#') ? [] : [line.trim()];
    const value = line.slice(head.length).trim();
    const password = /:\/\/[^\s:/@]*:([^\s@]+)@/.exec(value)?.[1];
    const own = suspicionOf(name) === 'none' ? [] : [value, value.replace(/^(['"])(.*)\1$/, '$2')];
    return password === undefined ? own : [...own, password];
  });
}
