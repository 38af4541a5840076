import type { OperationContext } from './context.ts';
import type { ProgramRunner } from './programs.ts';
import type { ServerProof } from './server-proof.ts';
import type { StoreHold, StoreVolume } from './volume.ts';

/** Where a server listens. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** A data directory that is read through what it lies behind, while its server is kept from writing. */
export interface RemoteDirectory {
  readonly volume: StoreVolume;
  readonly hold: StoreHold;
}

/** The server as the programs beside it see it. */
export interface ServerContainer {
  /** As the docker command takes it. */
  readonly name: string;
  readonly runner: ProgramRunner;
  readonly port: number;
}

/** A file that is written for the snapshot from the running containers, because no configuration file has its content. */
export interface DerivedSource {
  /** Without a directory: it belongs beside one of the component's files. */
  readonly fileName: string;
  /** What it would hold now; undefined when the files say everything, or nothing runs. */
  read(ctx: OperationContext): Promise<DerivedContent | undefined>;
}

/** What a derived file holds: values of settings, which may be secrets. */
export interface DerivedContent {
  readonly directory: string;
  /** Of the settings. */
  readonly names: readonly string[];
  readonly text: string;
}

/** Where a store is, for what its settings leave open. */
export interface StorePlace {
  /** Where it listens; `unknown` while its service does not run. Absent: the default address of this machine. */
  readonly address?: ServerAddress | 'unknown' | undefined;
  /** Tells its server from others; absent where nothing can. */
  readonly proof?: ServerProof | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Its data directory as a path of this machine. */
  readonly path?: string | undefined;
  /** Services beside its own that write to that directory. */
  readonly sharedWith?: readonly string[] | undefined;
  /** Its data directory where no path leads to it. */
  readonly remote?: RemoteDirectory | undefined;
  /** Where programs beside a server run. */
  readonly programs?: ServerContainer | undefined;
  /** What containers know more than the configuration's files say. */
  readonly derived?: DerivedSource;
}
