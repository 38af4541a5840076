import type { Omission } from './source.ts';

/** The end of a log that goes into the bundle. */
export const logLinesMax = 200;
export const logBytesMax = 256 * 1024;
/** A file of the operator, or a report of ours; longer ones are left out, as half of one could not be judged. */
export const fileCharsMax = 1024 * 1024;
/** Of all texts together. */
const totalCharsMax = 4 * 1024 * 1024;
/** What follows in one line of a log is cut off. */
const lineCharsMax = 16 * 1024;

/** Colours, cursor movements, titles of terminals (ECMA-48, "CSI" and "OSC"), and the characters that print nothing. */
const unprintable =
  /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]{0,400}(?:\u0007|\u001b\\)?|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u0080-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/**
 * The last lines of a log, whole ones only: `isCut` says that it had more before, so that its first line may be the
 * end of one. Without what colours it, or divides a word so that nobody sees it.
 */
export function endOfLog(text: string, isCut: boolean): string {
  const lines = text.replaceAll(unprintable, '').replaceAll(/\r\n?/g, '\n').split('\n');
  const whole = isCut ? lines.slice(1) : lines;
  const isEnded = whole.at(-1) === '';
  const last = whole.slice(-logLinesMax - (isEnded ? 1 : 0)).map(shortLine);
  if (last.length === 0 && text !== '') return '[One line that is too long to show]\n';
  while (last.length > 1 && last.reduce((sum, line) => sum + line.length + 1, 0) > logBytesMax) last.shift();
  return last.join('\n');
}

/** Cut between two words, so that nothing is left of a secret that nobody knows any more for one. */
function shortLine(line: string): string {
  if (line.length <= lineCharsMax) return line;
  const blank = line.lastIndexOf(' ', lineCharsMax);
  return `${line.slice(0, Math.max(blank, 0))} [${line.length - Math.max(blank, 0)} more characters]`;
}

/** Passes on what fits into the bundle, and names what does not. */
export class Allowance {
  #left = totalCharsMax;
  readonly omitted: Omission[] = [];

  /** Whether a text of that name fits. */
  takes(what: string, chars: number, ownMax: number): boolean {
    if (chars > ownMax) {
      this.omitted.push({ what, why: `It is larger than ${ownMax} characters` });
      return false;
    }
    if (chars > this.#left) {
      this.omitted.push({ what, why: `The bundle would hold more than ${totalCharsMax} characters` });
      return false;
    }
    this.#left -= chars;
    return true;
  }
}
