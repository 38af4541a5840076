import { toTarsError, type TarsError } from '../../model/errors.ts';
import type { Finding } from '../../model/finding.ts';

/** Problems of one kind named one by one in a message; the rest is counted. */
const listedMax = 5;

/** Collects what a check notices; nothing but an interruption ends it early. */
export class Findings {
  readonly all: Finding[] = [];

  add(severity: Finding['severity'], subject: string, code: string, message: string): void {
    this.all.push({ severity, subject, code, message });
  }

  /**
   * Runs `examine`; what it throws becomes an error finding about `subject`: of that code when it is damage, and as
   * unreadable when nothing is known of the content.
   * @throws TarsError `interrupted`, which is nothing about the repository
   */
  async examine<T>(subject: string, code: string, examine: () => Promise<T>): Promise<T | undefined> {
    try {
      return await examine();
    } catch (error) {
      const known = notInterrupted(error, `Cannot read ${subject}`);
      this.add('error', subject, isUnreadable(known) ? unreadableCode(code) : code, known.message);
      return undefined;
    }
  }
}

/** The error as a TarsError. @throws TarsError when it is an interruption */
export function notInterrupted(error: unknown, what: string): TarsError {
  const known = toTarsError(error, what);
  if (known.code === 'interrupted') throw known;
  return known;
}

/** True when the file could not be read at all: for want of a right, or as the disk failed. */
export function isUnreadable({ code }: TarsError): boolean {
  return code !== 'corruption' && code !== 'storage-not-found' && code !== 'unsupported-version';
}

/** `index-unreadable` for `index-damaged`. */
const unreadableCode = (code: string): string => code.replace(/-damaged$/, '-unreadable');

/** `a; b; and 7 more` */
export function enumerate(parts: readonly string[], total = parts.length, separator = '; '): string {
  const shown = parts.slice(0, listedMax);
  const more = total - shown.length;
  return more > 0 ? `${shown.join(separator)} and ${more} more` : shown.join(separator);
}
