import { hideSecrets } from '../../model/hide-secrets.ts';
import type { TextCleaner, UncleanText } from '../../ports/support.ts';
import { Allowance, endOfLog, fileCharsMax, logBytesMax } from './bounds.ts';
import type { Omission, RawFile } from './source.ts';

/**
 * A text that has been through the redactor. Nothing else can make one, and nothing else can be packed: no source has
 * a way around it.
 */
export class CleanFile {
  readonly path: string;
  readonly from: string;
  readonly text: string;
  readonly #isClean = true;

  private constructor(path: string, from: string, text: string) {
    this.path = path;
    this.from = from;
    this.text = text;
  }

  /** Whether it really is one, whatever its type says. */
  static is(file: unknown): file is CleanFile {
    return typeof file === 'object' && file !== null && #isClean in file && file.#isClean;
  }

  /** The only way from raw to clean. */
  static async cleaned(
    files: readonly RawFile[],
    lessons: readonly RawFile[],
    cleaner: Cleaner,
    signal: AbortSignal,
  ): Promise<CleanedFiles> {
    const { texts, omitted } = await cleaner.clean(files, lessons, signal);
    return {
      files: texts.map(({ path, from, text }) => new CleanFile(path, from, text)),
      omitted,
    };
  }
}

/** What came out clean, and what could not go in. */
interface CleanedFiles {
  readonly files: readonly CleanFile[];
  readonly omitted: readonly Omission[];
}

interface NamedBody {
  readonly path: string;
  readonly from: string;
  readonly text: string;
}

/** Redacts one bundle, and knows later what it learned before. */
export class Cleaner {
  readonly #cleaner: TextCleaner;
  readonly #settings: readonly string[];
  #known: readonly string[];

  /** @param known the secrets of the settings, of any length */
  constructor(cleaner: TextCleaner, known: readonly string[]) {
    this.#cleaner = cleaner;
    this.#settings = known;
    this.#known = known;
  }

  /** Texts, paths and origins of `files`, all redacted with what any of them and of `lessons` gives away. */
  async clean(
    files: readonly RawFile[],
    lessons: readonly RawFile[],
    signal: AbortSignal,
  ): Promise<{ readonly texts: readonly NamedBody[]; readonly omitted: readonly Omission[] }> {
    const allowance = new Allowance();
    const fitting = files.flatMap((file) => {
      const text = this.#textOf(file);
      if (text === undefined) {
        allowance.omitted.push({ what: file.path, why: 'It is not text' });
        return [];
      }
      const ownMax = file.form === 'log' ? logBytesMax : fileCharsMax;
      return allowance.takes(file.path, text.length, ownMax) ? [{ file, text }] : [];
    });
    const taught = lessons.flatMap((file) => {
      const text = this.#textOf(file);
      return text === undefined || text.length > fileCharsMax ? [] : [unclean(file, text)];
    });
    const names = fitting.map(({ file: { path, from } }) => ({ path, from }));
    const whole: UncleanText[] = [
      ...fitting.map(({ file, text }) => unclean(file, text)),
      // A path can hold a secret as well as a text can.
      { name: 'names.json', form: 'report', text: this.#withoutShort(JSON.stringify(names)) },
      ...taught,
    ];
    const { texts, secrets } = await this.#cleaner.clean(whole, this.#known, signal);
    this.#known = [...new Set([...this.#known, ...secrets])];
    const shown = JSON.parse(texts[fitting.length] ?? '[]') as readonly { path: string; from: string }[];
    return {
      texts: fitting.map(({ file }, i) => ({
        path: archivePath(shown[i]?.path ?? ''),
        from: shown[i]?.from ?? '',
        text: file.form === 'report' ? (texts[i] ?? '') : this.#hideShort(texts[i] ?? ''),
      })),
      omitted: allowance.omitted,
    };
  }

  /** Passwords of the settings that are too short to be replaced wherever they stand. */
  readonly #hideShort = (text: string): string => hideSecrets(text, this.#settings);

  /** The same within the texts of a JSON document, which stays one. */
  #withoutShort(json: string): string {
    return JSON.stringify(
      JSON.parse(json, (_, value: unknown) => (typeof value === 'string' ? this.#hideShort(value) : value)),
    );
  }

  /** Undefined for what is no text. */
  #textOf({ body, form }: RawFile): string | undefined {
    const text = typeof body === 'string' ? body : this.#cleaner.decode(body);
    if (form === 'log') return endOfLog(text, typeof body !== 'string' && body.byteLength >= logBytesMax);
    if (form === 'report') return this.#withoutShort(text);
    return text.includes('\u0000') ? undefined : text;
  }
}

const forms = { file: undefined, log: 'log', report: 'report', note: 'log' } as const;

/** A file of the operator is read as its own name says. */
const unclean = ({ from, path, form }: RawFile, text: string): UncleanText => ({
  ...{ text, form: forms[form], name: form === 'file' ? from : path },
});

/** Only characters that every file system takes; no way out of the folder. */
const archivePath = (path: string): string =>
  path
    .split('/')
    .map((part) => part.replaceAll(/[^\w.@+-]/g, '_').replace(/^\.+$/, '_'))
    .filter((part) => part !== '')
    .join('/');
