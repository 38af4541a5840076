/** One quoted string of a list, by position in the text. */
export interface Item {
  /** Of its opening quote. */
  readonly start: number;
  /** After its closing quote. */
  readonly end: number;
  /** What is between the quotes, as it stands. */
  readonly text: string;
}

/** Finds the closing quotes of a text. What is missing is looked for only once, so that a whole scan stays linear. */
export class Quotes {
  readonly #text: string;
  readonly #missing = new Set<string>();

  constructor(text: string) {
    this.#text = text;
  }

  /** The position of the quote that closes the one at `at`, on the same line; undefined when there is none. */
  closing(at: number): number | undefined {
    const quote = this.#text.charAt(at);
    if (this.#missing.has(quote)) return undefined;
    for (let i = at + 1; i < this.#text.length; i++) {
      const char = this.#text.charAt(i);
      if (char === '\n') return undefined;
      if (char === '\\' && quote !== "'") i += 1;
      else if (char === quote) return i;
    }
    this.#missing.add(quote);
    return undefined;
  }
}

/** Lists of quoted strings with nothing but commas between them, two strings or more: `"curl", "-u", "a:b"`. */
export function* quotedLists(text: string): Generator<readonly Item[]> {
  const quotes = new Quotes(text);
  let items: Item[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    const end =
      (char === '"' || char === "'") && text.charAt(at - 1) !== '\\' ? quotes.closing(at) : undefined;
    if (end !== undefined) {
      items.push({ start: at, end: end + 1, text: text.slice(at + 1, end) });
      at = end;
      continue;
    }
    if (char === ',' || char === ' ' || char === '\t') continue;
    if (items.length > 1) yield items;
    if (items.length > 0) items = [];
  }
  if (items.length > 1) yield items;
}
