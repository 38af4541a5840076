import type { z } from 'zod';
import type { ComponentManifest, ComposeRecord } from '../model/manifest.ts';
import type { RecoveryStep } from '../model/recovery-kit.ts';
import type { ContainerProgram } from '../model/container-programs.ts';
import type { Amount } from '../model/shrinkage.ts';
import type { Environment } from '../model/environment.ts';
import type { Component } from './component.ts';
import type { FoundStore } from './inventory.ts';
import type { ProgramCall } from './programs.ts';
import type { ServerAddress, StorePlace } from './store-place.ts';

/**
 * One kind of store, such as `postgres`: everything tars knows of it outside its adapter. A kind is a folder of
 * `src/components/` and a line of the registry there. `S` are the settings of one component, as its schema reads them;
 * {@link defineKind} binds them, so that no one else has to know their type.
 */
interface KindDefinition<S extends CommonSettings> {
  /** The value of `kind:` in `tars.yaml` and in manifests. */
  readonly name: string;
  readonly settings: SettingsSlot<S>;
  readonly places: PlacesSlot<S>;
  readonly recovery: RecoverySlot<S>;
  /** What a manifest's facts count, such as rows. Facts that do not fit count nothing. Absent: bytes alone. */
  readonly counts?: (component: ComponentManifest) => readonly Amount[];
  /** Databases that lie in what it captured and are no components themselves. Absent: never any. */
  readonly databases?: (component: ComponentManifest) => readonly InnerDatabase[];
  /** How it is found on a machine without containers. Absent: never. */
  readonly machine?: MachineSlot;
  /** A store that has a container of its own. Absent: none has. */
  readonly container?: ContainerSlot<S>;
  /** Loads what makes adapters, which only verbs that touch stores need. */
  readonly adapter: () => Promise<(settings: S, context: BuildContext) => Component>;
}

/** What the settings of every kind have. */
interface CommonSettings {
  readonly kind: string;
  /** The service of the runtime it runs in, or that uses it. */
  readonly service?: string | undefined;
}

/** Reads the settings of one component. */
type SettingsSchema<S> = z.ZodType<S> & z.core.$ZodTypeDiscriminable;

/** A component's section of `tars.yaml`. */
export interface SettingsSlot<S> {
  /**
   * A strict object with `kind`. Its descriptions are those of the published schema.
   * @param local for `overwrite` of every path of this machine: makes it absolute
   */
  readonly schema: (local: (path: string) => string) => SettingsSchema<S>;
  /** Fills in what one setting says of others. @throws ConfigurationError when they contradict each other */
  readonly complete?: (settings: S, where: SettingsOrigin) => S;
  /** What opens the store, and files that hold it. */
  readonly secrets?: (settings: S) => StoreSecrets;
  /**
   * The settings for a second Compose project of the same stack: without the addresses and directories of the first.
   * Undefined: the component belongs to the first project alone.
   */
  readonly forOtherProject: (settings: S) => S | undefined;
  /** Of a kind that captures the configuration of the stack. */
  readonly configuration?: (settings: S) => Configuration<S>;
}

/** Where settings were read. */
interface SettingsOrigin {
  /** The component. */
  readonly name: string;
  /** For errors, such as `/etc/tars/tars.yaml: component redis`. */
  readonly label: string;
  /** Whether the stack is a Compose project. */
  readonly hasDocker: boolean;
}

/** What opens a store. */
export interface StoreSecrets {
  readonly password?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** Headers of requests, such as `Bearer …`. */
  readonly headers?: readonly string[];
  /** A file that opens what the component captured. */
  readonly identityFile?: string | undefined;
}

/** Files of the stack's configuration. */
export interface Configuration<S> {
  /** Absolute. */
  readonly files: readonly string[];
  /** Opens sealed copies of them. */
  readonly identityFile: string | undefined;
  /** The same settings with one more file. */
  readonly with: (file: string) => S;
}

/** Where the component's data is on this machine. */
export interface PlacesSlot<S> {
  /** Paths that settings name. */
  readonly paths: (settings: S) => readonly DataPath[];
  /** What a capture can leave out of them: parts of a directory, whole files of several, or nothing (`whole`). */
  readonly leavesOut: LeavesOut;
  /** A directory in a container of `service`, in place of paths of this machine. */
  readonly inside?: (settings: S) => DirectoryInside | undefined;
  /**
   * What a backup puts into scratch_dir: all of the data before it is stored, or, for portable archives alone, one part
   * after the other. Absent: nothing.
   */
  readonly scratch?: 'all' | 'archives';
}

/** See {@link PlacesSlot.leavesOut}. */
export type LeavesOut = 'parts' | 'files' | 'whole';

/** A file or directory of this machine that a component captures or restores. */
export interface DataPath {
  readonly path: string;
  readonly isFile: boolean;
  /** Whether a backup reads it. */
  readonly isRead: boolean;
  /**
   * How a restore puts data there: `write`: into it. `replace`: another takes its place. `exchange`: as `replace`, but
   * in it where containers have it mounted.
   */
  readonly restoredBy: 'write' | 'replace' | 'exchange';
}

/** A directory in a container. */
interface DirectoryInside {
  readonly path: string;
  /** Whether all of it is captured. */
  readonly isWhole: boolean;
}

/** What lies in a component's places and is left out: relative paths, by the place. */
export type LeftOutWays = ReadonlyMap<string, readonly string[]>;

/** What an adapter is built with beside its own settings. */
export interface BuildContext {
  /** The component. */
  readonly name: string;
  readonly place: StorePlace;
  /** What of its places is not its own. */
  readonly leftOut: LeftOutWays;
  /** Absolute paths of files that tars needs itself, which may have more names. */
  readonly foreignFiles: readonly string[];
  readonly scratchDir: string;
  /** Whether the stack runs in containers, which keep a directory that was renamed. */
  readonly inContainers: boolean;
  /** Capture models whole, whatever the settings say. */
  readonly includeModels: boolean;
  readonly configuration: ConfigurationKeeping;
}

/** How configuration is kept. */
interface ConfigurationKeeping {
  readonly secrets: 'repository' | 'sealed' | 'redact-only';
  readonly ageRecipients: readonly string[];
  /** Replaced wherever configuration is shown. */
  readonly knownSecrets: readonly string[];
  /** What files of other components must not go into an archive in the clear. */
  readonly look: SecretLook;
}

/** Tells files that hold secrets. */
export interface SecretLook {
  /** So much of a file is looked at. */
  readonly bytesMax: number;
  readonly holdsSecret: (file: {
    readonly path: string;
    readonly head: Uint8Array;
    readonly isWhole: boolean;
  }) => boolean;
}

/** The way back without tars. */
export interface RecoverySlot<S> {
  /** When its step is due; see {@link RecoveryPhase}. */
  readonly phase: RecoveryPhase;
  /** Whether its step names single artifacts, so that the list of them is read. */
  readonly namesArtifacts: boolean;
  /** Where the data belongs, as far as settings say. */
  readonly home: (settings: S) => RecoveryHome;
  /**
   * Commands that put the data of a snapshot back with the store's own programs and a shell.
   * @param settings undefined when `tars.yaml` no longer has the component
   */
  readonly step: (part: RecoveryPart, settings: S | undefined) => RecoveryStep;
}

/**
 * Phases in their order. `configuration`: before containers are created. `directories`: what no server owns. `stopped`:
 * files of a store that does not run. `running`: through the store's server, which is started for it.
 */
export const recoveryPhases = ['configuration', 'directories', 'stopped', 'running'] as const;
export type RecoveryPhase = (typeof recoveryPhases)[number];

/** Where one component's data belongs. */
export interface RecoveryHome {
  readonly service?: string | undefined;
  readonly directory?: string | undefined;
  /** The directory is one of the service's container, not of the machine. */
  readonly inContainer?: boolean | undefined;
}

/** What one component's step is written from. */
export interface RecoveryPart {
  readonly component: ComponentManifest;
  readonly home: RecoveryHome;
  readonly compose: ComposeRecord | undefined;
}

/** What `tars init` writes of a store on this machine. */
export interface MachineSlot {
  /** Looks at the usual ports and places of this machine. Quick; changes nothing. */
  readonly propose: (env: Environment, probe: PortProbe) => Promise<Proposal>;
}

/** Whether anything accepts connections on a port of this machine, or on a Unix socket. Port 0 is none. */
export type PortProbe = (place: { readonly port: number } | { readonly socket: string }) => Promise<boolean>;

/** A section for `components:` of a new `tars.yaml`. */
export interface Proposal {
  /** Otherwise the section becomes a comment. */
  readonly isFound: boolean;
  /** Lines of YAML, the first with the component's name. */
  readonly lines: readonly string[];
}

/** {@link Proposal} of one kind. */
export interface KindProposal extends Proposal {
  readonly kind: string;
}

/** A store in a container of its own. */
export interface ContainerSlot<S> {
  readonly recognition: RecognitionSlot;
  readonly access: AccessSlot<S>;
}

/** How a container shows that it runs a store of the kind, and what it tells of it. */
export interface RecognitionSlot {
  /** What people call it, such as `Chroma`. */
  readonly title: string;
  /** Values of the label `com.tars.service`. */
  readonly labels: readonly string[];
  /** The last word of an image's name, without registry, tag and digest. */
  readonly images: RegExp;
  /** Where its server listens unless it is told otherwise. */
  readonly port: number;
  /** Whether that port alone says what it is. */
  readonly isPortTelling: boolean;
  /** Whether a server of the kind is at that address. */
  readonly answers: (address: ServerAddress, ask: ServerQuestions) => Promise<boolean>;
  /** Whether only its server answers so. Absent: yes. Poolers and proxies of some kinds give the same answer. */
  readonly isAnswerTelling?: boolean;
  /**
   * What a program is: the kind's server, or one that belongs to it and keeps nothing, such as a client. Undefined for
   * any other. Absent: programs tell nothing.
   */
  readonly programRole?: (program: ContainerProgram) => 'server' | 'client' | undefined;
  /** The port it is told to use. */
  readonly toldPort?: (container: ContainerSketch) => string | undefined;
  /** Whether it takes encrypted connections alone. */
  readonly isTlsOnly?: (container: ContainerSketch) => boolean;
  /** What it asks a client for. Absent: nothing. */
  readonly password?: (container: ContainerSketch, ask: PasswordQuestion) => Promise<PasswordSource>;
  /** What the official images take from their environment or command line. */
  readonly credentials?: (container: ContainerSketch) => Credentials;
  /** The directory in the container where it keeps its data, as far as a Compose file tells. */
  readonly expectedDirectory: (container: ContainerSketch) => string;
  /**
   * The same of a container that there is. Absent: {@link expectedDirectory} tells it.
   * @throws ConfigurationError when it could be one of several
   */
  readonly dataDirectory?: (container: ContainerWithFiles) => Promise<string>;
  /** A mount that looks like the data directory of another version, and is not used. */
  readonly isUnusedMount?: (destination: string) => boolean;
  /** What a backup is without a mounted data directory, for a comment in `tars.yaml`. */
  readonly riskIfUnmounted: FoundStore['riskIfUnmounted'];
  /** Further lines for its section of a new `tars.yaml`, without indent. */
  readonly proposal?: (store: Pick<FoundStore, 'tls'>) => readonly string[];
}

/** What a container, or a Compose file, tells of a service. */
export interface ContainerSketch {
  readonly image: string;
  readonly environment: Environment;
  /** The entrypoint and the command. */
  readonly argv: readonly string[];
}

/** A container whose files can be looked at, whether it runs or not. */
export interface ContainerWithFiles extends ContainerSketch {
  readonly service: string;
  readonly name: string;
  readonly mountedAt: readonly string[];
  /** A path as the container's main process sees it. */
  absolute(path: string): Promise<string>;
  exists(path: string): Promise<boolean>;
  /** A small text file; undefined when it is not there. */
  read(path: string): Promise<string | undefined>;
}

/** Asks a server that may be of any kind. */
export interface ServerQuestions {
  /** What it first answers; empty when it does not. */
  say(address: ServerAddress, bytes: string | Uint8Array): Promise<string>;
  /** The JSON at a path of an HTTP server; undefined when there is none. */
  json(address: ServerAddress, path: string): Promise<unknown>;
}

/** What the server itself answers; empty while it cannot be reached. */
export type PasswordQuestion = (bytes: string) => Promise<string>;

/**
 * `known`: from the container's environment or command. `needed`: it asks for one that is not known. `unknown`: it does
 * not answer. Or a file in the container, and what holds where no path of this machine leads to it.
 */
export type PasswordSource =
  'known' | 'none' | 'needed' | 'unknown' | { readonly file: string; readonly otherwise: 'none' | 'needed' };

/** What a client logs in with. */
export interface Credentials {
  readonly user?: string | undefined;
  readonly password?: string | undefined;
}

/** How tars reaches a store in its container. */
interface AccessSlot<S> {
  /**
   * `server`: everything goes over its connection, so it has to run. `both`: the server, and the files in its mount.
   * `files`: its server is not needed.
   */
  readonly through: 'server' | 'both' | 'files';
  /** What its server can still do where its data directory is not mounted. Absent: nothing. */
  readonly unmounted?: 'capture' | 'capture and restore';
  /** Its server's address, where settings give one. */
  readonly givenAddress: (settings: S) => string | undefined;
  /** Its port in the container, where settings give one. */
  readonly givenPort?: (settings: S) => number | undefined;
  /** The port for programs that run in the container; undefined when they must not. */
  readonly programsPort?: (settings: S) => number | undefined;
  /** A program in the container that prints what tells its server from others. Its words hold no password. */
  readonly identityCall?: (
    settings: S,
    container: ContainerSketch,
    password: string | undefined,
  ) => ProgramCall;
}

/** A database in a captured directory, for `show`. */
export interface InnerDatabase {
  /** As the service sees it. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Such as `SQLite, WAL`. */
  readonly format: string;
  /** Such as `checked` or `damaged: …`. */
  readonly state: string;
  /** Of some tables; without rows, where they could not be counted. */
  readonly tables: readonly { readonly name: string; readonly rows?: number | undefined }[];
  /** Of all of them. */
  readonly tableCount: number;
}

/** A kind whose settings' type only it knows. */
export interface StoreKind {
  readonly name: string;
  /** See {@link SettingsSlot.schema}. */
  readonly schema: (local: (path: string) => string) => SettingsSchema<ParsedComponent>;
  readonly counts: (component: ComponentManifest) => readonly Amount[];
  readonly databases: (component: ComponentManifest) => readonly InnerDatabase[];
  readonly recovery: {
    readonly phase: RecoveryPhase;
    readonly namesArtifacts: boolean;
    /** {@link RecoverySlot.step} of a component that `tars.yaml` no longer has. */
    readonly step: (part: RecoveryPart) => RecoveryStep;
  };
  /** Whether it captures the configuration of the stack. */
  readonly isConfiguration: boolean;
  readonly machine: MachineSlot | undefined;
  readonly recognition: RecognitionSlot | undefined;
}

/** All kinds, in the order in which they are shown. */
export type Kinds = readonly [StoreKind, ...StoreKind[]];

/** A component as its section alone says. */
export interface ParsedComponent {
  /** @throws ConfigurationError when its settings contradict each other */
  readonly complete: (where: SettingsOrigin) => ConfiguredComponent;
}

/** One component of `tars.yaml`, with what its kind knows bound to its settings. */
export interface ConfiguredComponent {
  readonly kind: string;
  readonly service: string | undefined;
  /** For showing and comparing alone. */
  readonly settings: CommonSettings;
  readonly secrets: StoreSecrets;
  readonly places: ConfiguredPlaces;
  readonly configuration: ConfiguredFiles | undefined;
  readonly recovery: ConfiguredRecovery;
  readonly container: ConfiguredContainer | undefined;
  /** See {@link SettingsSlot.forOtherProject}. */
  readonly forOtherProject: () => ConfiguredComponent | undefined;
  /** See {@link KindDefinition.adapter}. */
  readonly adapter: () => Promise<BuildComponent>;
}

/** Makes the adapter. Opens nothing. @throws TarsError when `place` leaves open what the adapter needs */
type BuildComponent = (context: BuildContext) => Component;

/** {@link PlacesSlot} of one component. */
interface ConfiguredPlaces {
  readonly paths: readonly DataPath[];
  readonly leavesOut: LeavesOut;
  readonly inside: DirectoryInside | undefined;
  readonly scratch: PlacesSlot<never>['scratch'];
}

/** {@link Configuration} of one component. */
interface ConfiguredFiles {
  readonly files: readonly string[];
  readonly identityFile: string | undefined;
  readonly with: (file: string) => ConfiguredComponent;
}

/** {@link RecoverySlot} of one component. */
interface ConfiguredRecovery {
  readonly phase: RecoveryPhase;
  readonly home: RecoveryHome;
  readonly step: (part: RecoveryPart) => RecoveryStep;
}

/** {@link ContainerSlot} of one component. */
export interface ConfiguredContainer {
  readonly recognition: RecognitionSlot;
  readonly through: AccessSlot<never>['through'];
  readonly unmounted: AccessSlot<never>['unmounted'];
  readonly givenAddress: string | undefined;
  readonly port: number;
  readonly programsPort: number | undefined;
  readonly identityCall:
    ((container: ContainerSketch, password: string | undefined) => ProgramCall) | undefined;
}

/** Hides the type of a kind's settings behind what is bound to them. */
export function defineKind<S extends CommonSettings>(kind: KindDefinition<S>): StoreKind {
  const { name, settings, recovery, counts, databases, machine, container } = kind;
  return {
    ...{ name, machine, recognition: container?.recognition },
    isConfiguration: settings.configuration !== undefined,
    schema: (local) =>
      settings.schema(local).transform((parsed): ParsedComponent => ({
        complete: (where) => configured(kind, settings.complete?.(parsed, where) ?? parsed),
      })),
    counts: counts ?? (() => []),
    databases: databases ?? (() => []),
    recovery: {
      ...{ phase: recovery.phase, namesArtifacts: recovery.namesArtifacts },
      step: (part) => recovery.step(part, undefined),
    },
  };
}

function configured<S extends CommonSettings>(kind: KindDefinition<S>, settings: S): ConfiguredComponent {
  const { places, recovery, container } = kind;
  const configuration = kind.settings.configuration?.(settings);
  return {
    ...{ kind: kind.name, service: settings.service, settings },
    secrets: kind.settings.secrets?.(settings) ?? {},
    places: {
      ...{ paths: places.paths(settings), leavesOut: places.leavesOut },
      ...{ inside: places.inside?.(settings), scratch: places.scratch },
    },
    configuration: configuration && {
      ...configuration,
      with: (file) => configured(kind, configuration.with(file)),
    },
    recovery: {
      ...{ phase: recovery.phase, home: recovery.home(settings) },
      step: (part) => recovery.step(part, settings),
    },
    container: container && configuredContainer(container, settings),
    forOtherProject: () => {
      const other = kind.settings.forOtherProject(settings);
      return other && configured(kind, other);
    },
    adapter: async () => {
      const build = await kind.adapter();
      return (context) => build(settings, context);
    },
  };
}

function configuredContainer<S>({ recognition, access }: ContainerSlot<S>, settings: S): ConfiguredContainer {
  const { through, unmounted, identityCall } = access;
  return {
    ...{ recognition, through, unmounted },
    givenAddress: access.givenAddress(settings),
    port: access.givenPort?.(settings) ?? recognition.port,
    programsPort: access.programsPort?.(settings),
    identityCall: identityCall && ((container, password) => identityCall(settings, container, password)),
  };
}
