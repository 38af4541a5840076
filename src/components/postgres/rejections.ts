/** One entry of a dump that the server did not take, as pg_restore reports it. */
export interface Rejection {
  /** Its number in the table of contents. */
  readonly entry: number;
  /** For a person, such as `FK CONSTRAINT "public.child child_p_fkey"`. */
  readonly what: string;
  /** For the data of a table: `public.child`. */
  readonly tableData: string | undefined;
  /** The server's first line, without the values in its details. */
  readonly error: string;
  /** The statement on one line, without what may be a secret; data has none. */
  readonly statement: string | undefined;
}

/** What a run of `pg_restore --verbose` reported. */
interface RestoreReport {
  readonly rejections: readonly Rejection[];
  /** True when it went through the whole dump and every error was the server's answer to one entry. */
  readonly complete: boolean;
}

const statementCharsMax = 300;

/** The server or its machine failed, not the entry. English: the programs run with LC_ALL=C. */
const notAnAnswer =
  /server closed the connection|no connection to the server|terminating connection|connection to server (?:was )?lost|SSL SYSCALL|No space left on device|Disk quota exceeded|out of memory|out of shared memory|canceling statement|could not write|could not extend/i;

/** Reads the stderr of pg_restore, line by line as it comes; blocks of an error last until its next own line. */
export class RestoreReportReader {
  #rest = '';
  #block: string[] = [];
  #entry: number | undefined;
  #what = '';
  #ended = false;
  #failed = false;
  #lastError: string | undefined;
  readonly #rejections = new Map<number, Rejection>();
  readonly #decoder = new TextDecoder();

  /** Takes the next bytes. */
  take(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  /** The first line of the last error. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** What there was, once everything has been taken. */
  report(): RestoreReport {
    this.#line(this.#rest);
    this.#endBlock();
    this.#rest = '';
    return { rejections: [...this.#rejections.values()], complete: this.#ended && !this.#failed };
  }

  #line(line: string): void {
    const own = /^pg_restore: (.*)$/.exec(line)?.[1];
    if (own === undefined) {
      if (this.#block.length > 0) this.#block.push(line);
      return;
    }
    this.#endBlock();
    const [, entry] = /^from TOC entry (\d+); /.exec(own) ?? [];
    if (entry !== undefined) this.#entry = Number(entry);
    const [, created] = /^creating (.*)$/.exec(own) ?? [];
    const [, table] = /^processing data for table "(.*)"$/.exec(own) ?? [];
    const [, executed] = /^executing (.*)$/.exec(own) ?? [];
    if (table !== undefined) this.#what = `TABLE DATA "${table}"`;
    else this.#what = created ?? executed ?? this.#what;
    if (own.startsWith('error: ')) this.#block = [own.slice('error: '.length)];
    if (/^warning: errors ignored on restore: \d+$/.test(own)) this.#ended = true;
  }

  #endBlock(): void {
    const [first, ...more] = this.#block;
    this.#block = [];
    if (first === undefined) return;
    this.#lastError = first;
    if (notAnAnswer.test(first)) this.#failed = true;
    // A newer pg_restore sets parameters first that an older server does not know: nothing is lost.
    if (this.#entry === undefined || this.#rejections.has(this.#entry)) return;
    const at = more.findIndex((line) => line.startsWith('Command was: '));
    const statement = at < 0 ? undefined : more.slice(at).join(' ').slice('Command was: '.length);
    this.#rejections.set(this.#entry, {
      entry: this.#entry,
      what: this.#what,
      tableData: /^TABLE DATA "(.*)"$/.exec(this.#what)?.[1],
      error: first.replace(/^could not execute query: /, ''),
      statement: statement === undefined ? undefined : shown(statement),
    });
  }
}

/** Constants of statements about other servers are passwords, or connection strings that hold one. */
function shown(statement: string): string {
  const line = statement.replaceAll(/\s+/g, ' ').trim();
  const foreign = /\b(SERVER|USER MAPPING|SUBSCRIPTION|FOREIGN|PASSWORD)\b/i.test(line);
  const safe = foreign ? line.replaceAll(/'(?:[^']|'')*(?:'|$)/g, "'…'") : line;
  return safe.length > statementCharsMax ? `${safe.slice(0, statementCharsMax)}…` : safe;
}
