/** Larger reads are worth a request of their own. */
const smallMaxBytes = 64 << 10;
/** What is read at once around a small blob, aligned in its pack. */
const windowBytes = 512 << 10;
/** Several packs are filled at a time, so that files one behind the other lie in some of them. */
const windowsKept = 8;
const packsRemembered = 64;

/** Some bytes of a pack. */
export interface PackRange {
  readonly packId: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

interface Window extends PackRange {
  readonly bytes: Promise<Uint8Array>;
}

/**
 * Small blobs come from few reads when they are read near one another, as thousands of little files or trees are. A
 * single one is read alone. Holds four mebibytes at most.
 */
export class PackWindows {
  readonly #load: (range: PackRange, signal: AbortSignal) => Promise<Uint8Array>;
  /** The least recently used first. */
  readonly #windows = new Set<Window>();
  /** Where the last read of each pack was. */
  readonly #places = new Map<string, number>();

  constructor(load: (range: PackRange, signal: AbortSignal) => Promise<Uint8Array>) {
    this.#load = load;
  }

  /** @param packEndBytes where the last blob of the pack ends */
  async read(range: PackRange, packEndBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const isNear = this.#note(range);
    if (range.lengthBytes > smallMaxBytes) return this.#load(range, signal);
    const known = this.#covering(range);
    if (known === undefined && !isNear) return this.#load(range, signal);
    const window = known ?? this.#open(range, packEndBytes, signal);
    this.#keep(window);
    try {
      const bytes = await window.bytes;
      const start = range.offsetBytes - window.offsetBytes;
      return bytes.subarray(start, start + range.lengthBytes);
    } catch {
      // What lies around it may be damaged, or the window be another reader's who gave up.
      this.#windows.delete(window);
      return this.#load(range, signal);
    }
  }

  #note({ packId, offsetBytes }: PackRange): boolean {
    const place = this.#places.get(packId);
    this.#places.delete(packId);
    this.#places.set(packId, offsetBytes);
    const [oldest] = this.#places.keys();
    if (this.#places.size > packsRemembered && oldest !== undefined) this.#places.delete(oldest);
    return place !== undefined && Math.abs(offsetBytes - place) <= windowBytes;
  }

  #covering({ packId, offsetBytes, lengthBytes }: PackRange): Window | undefined {
    for (const window of this.#windows) {
      const isCovered =
        window.packId === packId &&
        window.offsetBytes <= offsetBytes &&
        window.offsetBytes + window.lengthBytes >= offsetBytes + lengthBytes;
      if (isCovered) return window;
    }
    return undefined;
  }

  #open({ packId, offsetBytes, lengthBytes }: PackRange, packEndBytes: number, signal: AbortSignal): Window {
    const startBytes = offsetBytes - (offsetBytes % windowBytes);
    const wantedEndBytes = offsetBytes + lengthBytes;
    const endBytes = Math.max(wantedEndBytes, Math.min(startBytes + windowBytes, packEndBytes));
    const range = { packId, offsetBytes: startBytes, lengthBytes: endBytes - startBytes };
    const bytes = this.#load(range, signal);
    bytes.catch(() => undefined);
    return { ...range, bytes };
  }

  #keep(window: Window): void {
    this.#windows.delete(window);
    this.#windows.add(window);
    const [oldest] = this.#windows;
    if (this.#windows.size > windowsKept && oldest) this.#windows.delete(oldest);
  }
}
