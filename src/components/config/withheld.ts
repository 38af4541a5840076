import { basename } from 'node:path/posix';
import { decodeText } from './files.ts';
import { isSecretFile, lineRuleFor } from './redact/credential-files.ts';
import { redactFile } from './redact/index.ts';

/** The beginning of a file that is looked at; configuration and keys are shorter. */
export const lookedAtBytesMax = 2 ** 20;

/** A file as far as it was read. */
export interface LookedAtFile {
  readonly path: string;
  /** At most {@link lookedAtBytesMax} and a little more. */
  readonly head: Uint8Array;
  readonly isWhole: boolean;
}

/** Shorter ones occur by chance. */
const searchableLengthMin = 8;

/**
 * Whether a file of any directory holds a secret, so that it does not go into an archive in the clear: by its name, by a
 * private key in it, by a known secret in it, or because it is configuration in which redaction finds one. Data of
 * applications that merely speaks of tokens is none.
 */
export function holdsSecret({ path, head, isWhole }: LookedAtFile, known: readonly string[]): boolean {
  const base = basename(path);
  if (head.byteLength === 0 || base.endsWith('.pub')) return false;
  if (isSecretFile(path) || /^id_[a-z0-9]+$/.test(base)) return true;
  const { text } = decodeText(head);
  if (privateKey.test(text) || known.some((secret) => isIn(text, secret))) return true;
  const isConfiguration = configurationName.test(base) || lineRuleFor(path, text) !== undefined;
  // What is too long to be looked through is not shown either.
  return isConfiguration && (!isWhole || redactFile(path, text, known).secrets.length > 0);
}

const privateKey = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|AGE-SECRET-KEY-1|^PuTTY-User-Key-File-/m;

/** JSON is data as often as configuration, so its name must say what it is. */
const configurationName =
  /^\.?env(?:[._-].*)?$|\.env(?:\..*)?$|^\.\w+rc$|^(?:config|credentials)$|\.(?:ya?ml|toml|ini|cfg|conf|properties)$|(?:config|settings|secrets?|credentials?|auth)\.json$/i;

/** All of the text is the secret, or a secret that does not occur by chance is part of it. */
const isIn = (text: string, secret: string): boolean =>
  secret !== '' &&
  (text.trim() === secret ||
    (secret.length >= searchableLengthMin && /[^a-z]/.test(secret) && text.includes(secret)));
