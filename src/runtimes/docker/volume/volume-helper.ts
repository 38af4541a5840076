import { posix } from 'node:path';
import tar from 'tar-stream';
import { throwIfAborted } from '../../../model/abort.ts';
import { TarsError, toTarsError } from '../../../model/errors.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type {
  NewEntry,
  OpenVolume,
  VolumeExchange,
  VolumeFile,
  VolumeListing,
} from '../../../ports/volume.ts';
import { openArchive, type ArchivedEntry } from '../engine/container-archive.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import { containerRunner } from '../engine/exec.ts';
import type { ContainerMount, ProjectContainer } from '../project/project.ts';
import { parseHashes, parseListing } from './volume-listing.ts';
import { packEntries } from './volume-packing.ts';
import {
  discardScript,
  enterScript,
  hashScript,
  listScript,
  swapScript,
  undoScript,
} from './volume-scripts.ts';

/** Where the store's mount is in the helper container. */
export const mountPoint = '/tars-volume';
/** A label on helper containers that says what they are for. */
const helperLabel = 'com.tars.helper';

/** A directory of a container, through the mount it is in. */
export interface VolumePlace {
  readonly container: ProjectContainer;
  readonly mount: ContainerMount;
  /** The store's directory in the container. */
  readonly path: string;
}

/** A volume as its helper container sees it. */
interface HelperPlace extends VolumePlace {
  readonly label: string;
  /** The store's directory in the helper container. */
  readonly root: string;
}

/** A container that is there for one volume, and ends with this process. */
export class HelperContainer implements OpenVolume {
  readonly #engine: Engine;
  readonly #place: HelperPlace;
  readonly #id: string;
  readonly #access: 'read' | 'write';
  /** Open stdin is what the helper lives on. */
  readonly #stdin: NodeJS.ReadWriteStream;
  /** What is being read, or was left unread: the Engine does nothing else with the container meanwhile. */
  #archive: ArchivedEntry | undefined;

  /** @throws TarsError when the image has no shell */
  static async start(
    engine: Engine,
    place: HelperPlace,
    access: 'read' | 'write',
    ctx: OperationContext,
  ): Promise<HelperContainer> {
    throwIfAborted(ctx.signal);
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
      throw engineError(error, `Cannot read ${label} with a container of ${container.image}`);
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

  async hashes(path: string, signal: AbortSignal): Promise<ReadonlyMap<string, string> | undefined> {
    return parseHashes(await this.#run(hashScript, [path], signal));
  }

  async read(path: string, signal: AbortSignal): Promise<VolumeFile | undefined> {
    const { root, label } = this.#place;
    this.#archive?.close();
    const what = `Cannot read ${path} of ${label}`;
    const archive = await openArchive(this.#engine, this.#id, posix.join(root, path), what, signal);
    this.#archive = archive;
    if (archive === undefined) return undefined;
    const { size, type, linkname } = archive.header;
    return {
      sizeBytes: size,
      linkTarget: type === 'symlink' ? linkname : undefined,
      body: archive.body,
    };
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
      throwIfAborted(signal, error);
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
      throw toTarsError(error, `Cannot run commands in ${label}`);
    }
    return Buffer.concat(pieces).toString();
  }

  /** The helper ends and is removed when its input does. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#archive?.close();
    this.#stdin.end();
    const container = this.#engine.getContainer(this.#id);
    // `cat` reads an end at once; the force is for one that hangs on a dead disk.
    await container.remove({ force: true, v: true }).catch(() => undefined);
  }
}

/** As the scripts take them. */
export const argumentsOf = ({ restoreId, part }: VolumeExchange): readonly string[] => [
  restoreId,
  ...('all' in part ? ['all'] : ['paths', ...part.paths]),
];

function mountOf({ type, volume, source }: ContainerMount, access: 'read' | 'write') {
  const common = { Target: mountPoint, ReadOnly: access === 'read' };
  return type === 'volume' && volume !== undefined
    ? { ...common, Type: 'volume' as const, Source: volume, VolumeOptions: { NoCopy: true } as never }
    : { ...common, Type: 'bind' as const, Source: source };
}
