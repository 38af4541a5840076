import { posix } from 'node:path';
import type { Readable } from 'node:stream';
import tar from 'tar-stream';
import { InterruptedError, TarsError, toTarsError } from '../../model/errors.ts';
import type { Bytes } from '../../ports/artifacts.ts';
import type { OperationContext } from '../../ports/context.ts';
import type {
  NewEntry,
  OpenVolume,
  StoreVolume,
  VolumeEntry,
  VolumeExchange,
  VolumeFile,
  VolumeListing,
} from '../../ports/volume.ts';
import { engineError, engineStatus, type Engine } from './engine.ts';
import { containerRunner } from './exec.ts';
import type { ContainerMount, ProjectContainer } from './project.ts';
import {
  discardScript,
  enterScript,
  listScript,
  swapScript,
  undoScript,
  wayBackScript,
} from './volume-scripts.ts';

/** Where the store's mount is in the helper container. */
const mountPoint = '/tars-volume';
/** On helper containers, for whoever wonders what they are. */
const helperLabel = 'com.tars.helper';

/** A directory of a container, through the mount it is in. */
export interface VolumePlace {
  readonly container: ProjectContainer;
  readonly mount: ContainerMount;
  /** The store's directory in the container. */
  readonly path: string;
}

/**
 * A store's directory behind the Engine. Work on it is done in a helper container: made from the store's own image,
 * without network, with nothing mounted but what the store has mounted there. It works whether the store runs, is
 * frozen or stopped, and it ends with this process, however that ends.
 */
export function createDockerVolume(engine: Engine, place: VolumePlace): StoreVolume {
  const { container, mount, path } = place;
  const where = mount.volume === undefined ? `the directory ${mount.source}` : `the volume ${mount.volume}`;
  const label = `${path} in ${where}`;
  const root = posix.join(mountPoint, posix.relative(mount.destination, path));
  return {
    label,
    open: (access, ctx) => HelperContainer.start(engine, { ...place, label, root }, access, ctx),
    wayBack: ({ restoreId, paths }) => {
      const script = wayBackScript(restoreId, paths === undefined);
      const command = [
        ...['docker', 'run', '--rm', '--user', '0:0', '--network', 'none', '--entrypoint', 'sh'],
        ...['-v', `${mount.volume ?? mount.source}:${mountPoint}`, '-w', root, container.image],
        ...['-euc', script, ...(paths === undefined ? [] : ['sh', ...paths])],
      ];
      return [command.map(shellWord).join(' ')];
    },
    async running() {
      try {
        return (await engine.getContainer(container.id).inspect()).State.Running;
      } catch (error) {
        if (engineStatus(error) === 404) return false;
        throw engineError(error, `Cannot look at the container ${container.name}`);
      }
    },
  };
}

const shellWord = (text: string): string =>
  /^[\w./:=-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;

interface HelperPlace extends VolumePlace {
  readonly label: string;
  /** The store's directory in the helper container. */
  readonly root: string;
}

class HelperContainer implements OpenVolume {
  readonly #engine: Engine;
  readonly #place: HelperPlace;
  readonly #id: string;
  readonly #access: 'read' | 'write';
  /** Open stdin is what the helper lives on. */
  readonly #stdin: NodeJS.ReadWriteStream;
  /** What is being read, or was left unread: the Engine does nothing else with the container meanwhile. */
  #archive: Readable | undefined;

  /** @throws TarsError when the image has no shell */
  static async start(
    engine: Engine,
    place: HelperPlace,
    access: 'read' | 'write',
    ctx: OperationContext,
  ): Promise<HelperContainer> {
    if (ctx.signal.aborted) throw new InterruptedError();
    const { container, mount, label } = place;
    if (access === 'write' && mount.readOnly) {
      throw new TarsError('access-denied', `${label} is mounted read-only in ${container.name}`, {
        hint: 'Mount it for writing in the Compose file.',
      });
    }
    try {
      const helper = await engine.createContainer({
        Image: container.imageId,
        Entrypoint: ['sh', '-c', 'cat >/dev/null'],
        Cmd: [],
        User: '0:0',
        WorkingDir: '/',
        Labels: { [helperLabel]: container.service },
        Healthcheck: { Test: ['NONE'] },
        ...{ OpenStdin: true, StdinOnce: true, AttachStdin: true },
        HostConfig: {
          AutoRemove: true,
          NetworkMode: 'none',
          Mounts: [mountOf(mount, access)],
        },
      });
      try {
        const stdin = await helper.attach({ stream: true, stdin: true, hijack: true });
        await helper.start();
        return new HelperContainer(engine, place, helper.id, access, stdin);
      } catch (error) {
        await helper.remove({ force: true, v: true }).catch(() => undefined);
        throw error;
      }
    } catch (error) {
      throw engineError(error, `Cannot look into ${label} with a container of ${container.image}`);
    }
  }

  private constructor(
    engine: Engine,
    place: HelperPlace,
    id: string,
    access: 'read' | 'write',
    stdin: NodeJS.ReadWriteStream,
  ) {
    this.#engine = engine;
    this.#access = access;
    this.#place = place;
    this.#id = id;
    this.#stdin = stdin;
    // Its end is noticed by what does not work any more.
    stdin.on('error', () => undefined);
  }

  async list(signal: AbortSignal): Promise<VolumeListing | undefined> {
    return parseListing(await this.#run(listScript, [], signal));
  }

  async read(path: string, signal: AbortSignal): Promise<VolumeFile | undefined> {
    const what = `Cannot read ${path} of ${this.#place.label}`;
    if (signal.aborted) throw new InterruptedError();
    this.#archive?.destroy();
    let archive: NodeJS.ReadableStream;
    try {
      const options = { path: posix.join(this.#place.root, path), abortSignal: signal };
      archive = await this.#engine.getContainer(this.#id).getArchive(options);
    } catch (error) {
      if (isAborted(signal)) throw new InterruptedError('Interrupted', { cause: error });
      if (engineStatus(error) === 404) return undefined;
      throw engineError(error, what);
    }
    this.#archive = archive as unknown as Readable;
    return firstEntry(this.#archive, what, signal);
  }

  async write(entries: AsyncIterable<NewEntry>, signal: AbortSignal): Promise<void> {
    const what = `Cannot write to ${this.#place.label}`;
    await this.#run(':', [], signal);
    const pack = tar.pack();
    const packing = packEntries(pack, entries, signal);
    try {
      const options = { path: this.#place.root, abortSignal: signal };
      const [, packed] = await Promise.all([
        this.#engine.getContainer(this.#id).putArchive(pack as unknown as NodeJS.ReadableStream, options),
        packing,
      ]);
      if (packed !== undefined) throw packed;
    } catch (error) {
      pack.destroy();
      const cause = await packing;
      if (signal.aborted) throw new InterruptedError('Interrupted', { cause: error });
      throw cause ?? engineError(error, what);
    }
  }

  async remove(path: string, signal: AbortSignal): Promise<void> {
    await this.#run('rm -rf "$1"', [path], signal);
  }

  async swap(exchange: VolumeExchange, signal: AbortSignal): Promise<void> {
    await this.#run(swapScript, argumentsOf(exchange), signal);
  }

  async undo(exchange: VolumeExchange, signal: AbortSignal): Promise<readonly string[]> {
    const kept = await this.#run(undoScript, argumentsOf(exchange), signal);
    return kept.split('\n').filter((line) => line !== '');
  }

  async discardPrevious(exchange: VolumeExchange, signal: AbortSignal): Promise<void> {
    await this.#run(discardScript, argumentsOf(exchange), signal);
  }

  async #run(script: string, args: readonly string[], signal: AbortSignal): Promise<string> {
    const { root, label } = this.#place;
    const call = {
      path: 'sh',
      args: ['-c', enterScript, 'sh', mountPoint, root, ...args],
      environment: { TARS_SCRIPT: script, TARS_ACCESS: this.#access },
    };
    const pieces: Uint8Array[] = [];
    try {
      for await (const piece of containerRunner(this.#engine, this.#id).output(call, signal))
        pieces.push(piece);
    } catch (error) {
      throw toTarsError(error, `Cannot work on ${label}`);
    }
    return Buffer.concat(pieces).toString();
  }

  /** The helper ends and is removed when its input does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#archive?.destroy();
    this.#stdin.end();
    const container = this.#engine.getContainer(this.#id);
    // `cat` reads an end at once; the force is for one that hangs on a dead disk.
    await container.remove({ force: true, v: true }).catch(() => undefined);
  }
}

/** A function, because the compiler takes a property it has seen once for constant. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted;

const argumentsOf = ({ restoreId, paths }: VolumeExchange): readonly string[] => [
  restoreId,
  ...(paths ?? []),
];

function mountOf({ type, volume, source }: ContainerMount, access: 'read' | 'write') {
  const common = { Target: mountPoint, ReadOnly: access === 'read' };
  return type === 'volume' && volume !== undefined
    ? { ...common, Type: 'volume' as const, Source: volume, VolumeOptions: { NoCopy: true } as never }
    : { ...common, Type: 'bind' as const, Source: source };
}

/** The kinds of `st_mode` (inode(7)). */
const fileTypes: Readonly<Record<number, VolumeEntry['type']>> = {
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'symlink',
};

const linePattern =
  /^([0-9a-f]+) (\d+) (\d+) (\d+) (\d+) (\d+-\d+-\d+ [\d:.]+(?: [+-]\d{4})?) (\d+-\d+-\d+ [\d:.]+(?: [+-]\d{4})?) \.(?:\/(.*))?$/;

/** What {@link listScript} prints. @throws TarsError for a name that is no line */
export function parseListing(text: string): VolumeListing | undefined {
  const entries = new Map<string, VolumeEntry>();
  let root: VolumeEntry | undefined;
  let takenAtNs: bigint | undefined;
  for (const line of text.split('\n').filter((row) => row !== '')) {
    const now = /^now (\d+)$/.exec(line)?.[1];
    if (now !== undefined) {
      takenAtNs = BigInt(now) * 1_000_000_000n;
      continue;
    }
    const match = linePattern.exec(line);
    if (match === null) throw new TarsError('capture-failed', `An entry has an impossible name: ${line}`);
    const entry = entryOf(match);
    if (entry.path === '') root = entry;
    else entries.set(entry.path, entry);
  }
  if (root === undefined || takenAtNs === undefined) return undefined;
  const fine = [root, ...entries.values()].some(({ identity }) => identity.mtimeNs % 1_000_000_000n !== 0n);
  return { root, entries, takenAtNs, fineTimes: fine };
}

function entryOf(match: RegExpExecArray): VolumeEntry {
  const [, rawMode = '', uid, gid, size, inode = '0', mtime = '', ctime = '', path = ''] = match;
  const mode = Number.parseInt(rawMode, 16);
  const mtimeNs = timeNs(mtime);
  return {
    path,
    type: fileTypes[mode & 0o170000] ?? 'other',
    attributes: { mode: mode & 0o7777, uid: Number(uid), gid: Number(gid), mtimeNs },
    identity: { sizeBytes: Number(size), mtimeNs, ctimeNs: timeNs(ctime), inode: BigInt(inode) },
  };
}

/** `2026-11-24 16:03:34.911946946 +0000`; BusyBox leaves fraction or zone out. */
function timeNs(text: string): bigint {
  const [, date = '', time = '', fraction = '', zone = '+0000'] =
    /^(\S+) ([\d:]+)(?:\.(\d+))?(?: (\S+))?$/.exec(text) ?? [];
  const ms = Date.parse(`${date}T${time}${zone.slice(0, 3)}:${zone.slice(3)}`);
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
}

async function firstEntry(archive: Readable, what: string, signal: AbortSignal): Promise<VolumeFile> {
  const extract = tar.extract();
  archive.on('error', (error) => extract.destroy(error));
  archive.on('close', () => {
    if (!archive.readableEnded) extract.destroy(new Error('The Engine cut it short'));
  });
  archive.pipe(extract);
  const close = (): void => {
    archive.destroy();
    extract.destroy();
  };
  const failure = (error: unknown): TarsError =>
    signal.aborted ? new InterruptedError('Interrupted', { cause: error }) : engineError(error, what);
  const iterator = extract[Symbol.asyncIterator]();
  try {
    const next = await iterator.next();
    if (next.done === true) throw new TarsError('subprocess', `${what}: the Engine sent nothing`);
    const { size, type, linkname } = next.value.header;
    return {
      sizeBytes: size,
      linkTarget: type === 'symlink' ? linkname : undefined,
      body: body(next.value as unknown as AsyncIterable<Buffer>, size),
    };
  } catch (error) {
    close();
    throw failure(error);
  }

  async function* body(entry: AsyncIterable<Buffer>, sizeBytes: number): Bytes {
    try {
      let readBytes = 0;
      for await (const chunk of entry) {
        readBytes += chunk.length;
        yield chunk;
      }
      // Also the end must come: a file that grew or shrank meanwhile breaks the archive there.
      if (readBytes !== sizeBytes || (await iterator.next()).done !== true)
        throw new Error('it changed while it was read');
    } catch (error) {
      throw failure(error);
    } finally {
      close();
    }
  }
}

/** Resolves to what went wrong with the entries, if something did. */
async function packEntries(
  pack: tar.Pack,
  entries: AsyncIterable<NewEntry>,
  signal: AbortSignal,
): Promise<TarsError | undefined> {
  try {
    for await (const { path, type, attributes, sizeBytes, linkTarget, body } of entries) {
      if (signal.aborted) throw new InterruptedError();
      const { mode, uid, gid, mtimeNs } = attributes;
      const header = {
        ...{ name: path, type, mode, uid, gid, mtime: new Date(Number(mtimeNs / 1_000_000n)) },
        size: type === 'file' ? sizeBytes : 0,
        ...(linkTarget === undefined ? {} : { linkname: linkTarget }),
      };
      await packEntry(pack, header, type === 'file' ? body : undefined);
    }
    pack.finalize();
    return undefined;
  } catch (error) {
    const failure = toTarsError(error, 'Cannot read what is to be written');
    pack.destroy(failure);
    return failure;
  }
}

async function packEntry(
  pack: tar.Pack,
  header: Parameters<tar.Pack['entry']>[0],
  body: Bytes | undefined,
): Promise<void> {
  if (body === undefined || header.size === 0) {
    await new Promise<void>((resolve, reject) => {
      pack.entry(header, '', (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    return;
  }
  const done = Promise.withResolvers<undefined>();
  done.promise.catch(() => undefined);
  const entry = pack.entry(header, (error) => {
    if (error) done.reject(error);
    else done.resolve(undefined);
  });
  for await (const chunk of body) {
    if (!entry.write(chunk)) {
      await Promise.race([
        new Promise<void>((resolve) => void entry.once('drain', () => resolve())),
        done.promise,
      ]);
    }
  }
  entry.end(undefined);
  await done.promise;
}
