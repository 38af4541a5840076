import assert from 'node:assert/strict';
import { PreviousDataGoneError, ServiceUnavailableError, TarsError } from '../../src/model/errors.ts';
import type { ComponentManifest } from '../../src/model/manifest.ts';
import { recoverInterrupted } from '../../src/operations/restore/recover.ts';
import { planRestore } from '../../src/operations/restore/plan.ts';
import type { RestoreTarget } from '../../src/operations/restore/target.ts';
import {
  executeRestore,
  type RestoreExecution,
  type RestoreResult,
} from '../../src/operations/restore/restore.ts';
import type { Component, Staged } from '../../src/ports/component.ts';
import type { OperationContext } from '../../src/ports/context.ts';
import type { RestoreJournal, RestoreJournalEntry } from '../../src/ports/journal.ts';
import type { Runtime, Service, ServiceMount } from '../../src/ports/runtime.ts';
import type { SnapshotSource } from '../../src/ports/snapshot-store.ts';

/** What goes wrong at call number `at`. */
export interface Fault {
  readonly at: number;
  /**
   * `refuse`: the call fails and did nothing. `late`: it did its work, then fails. `stuck`: it and every later call of
   * that name fail. `crash`: from here on nothing happens any more. `abort`: the operator interrupts.
   */
  readonly kind: 'refuse' | 'late' | 'stuck' | 'crash' | 'abort';
}

interface Store {
  live: 'old' | 'new' | 'none';
  previous: 'old' | undefined;
  staged: boolean;
}

/** Files of a server that has to be down, a server's own databases, and files without a server. */
const shapes = {
  files: { service: 'files', offline: true },
  databases: { service: 'databases', offline: false },
  plain: { service: undefined, offline: false },
} as const;
type Name = keyof typeof shapes;
export const names = Object.keys(shapes) as Name[];

const dependsOn = { files: [], databases: [], app: ['files', 'databases'] } as const;
type ServiceName = keyof typeof dependsOn;
const serviceNames = Object.keys(dependsOn) as ServiceName[];

const restoreId = 'r1';

/** A stack that lives in memory behind our own ports, in which every call can fail. Rules broken are recorded. */
export class World {
  readonly stores: Record<Name, Store>;
  readonly running = new Set<ServiceName>(serviceNames);
  readonly calls: string[] = [];
  readonly warnings: string[] = [];
  readonly violations: string[] = [];
  entry: RestoreJournalEntry | undefined;
  fault: Fault | undefined;
  /** A second one, for what is done about the first. */
  alsoAt: Fault | undefined;
  /** The name of a call that never works. */
  broken: string | undefined;
  /** A service that a supervisor starts while the next store is exchanged. */
  supervised: ServiceName | undefined;
  /** Stores whose server finds that what was live before is not there any more. */
  readonly withoutPrevious = new Set<Name>();
  /** Services whose containers and volumes were removed. */
  readonly removed = new Set<ServiceName>();
  /** A store whose content turns out not to be what was captured. */
  differs: Name | undefined;
  readonly #hadLive: boolean;
  #crashed = false;
  #stuck: string | undefined;
  #abort = new AbortController();
  #nowMs = 0;

  constructor(hadLive = true) {
    this.#hadLive = hadLive;
    const store = (): Store => ({ live: hadLive ? 'old' : 'none', previous: undefined, staged: false });
    this.stores = { files: store(), databases: store(), plain: store() };
  }

  /** The next `tars` process: nothing is broken any more. */
  newProcess(): void {
    this.fault = undefined;
    this.alsoAt = undefined;
    this.#crashed = false;
    this.#stuck = undefined;
    this.#abort = new AbortController();
    this.calls.length = 0;
  }

  async restore(execution: Partial<RestoreExecution> = {}): Promise<RestoreResult> {
    const source = this.#source();
    const selection = { only: undefined, skip: [], restoreConfig: true, startServices: true, restoreId };
    const faults = [this.fault, this.alsoAt] as const;
    [this.fault, this.alsoAt] = [undefined, undefined];
    const plan = await planRestore(source, this.target, selection, this.ctx);
    this.calls.length = 0;
    [this.fault, this.alsoAt] = faults;
    const options = { discardPrevious: false, skipValidation: false, ...execution };
    return executeRestore(plan, source, this.target, this.journal, options, this.ctx);
  }

  recover(): Promise<void> {
    return recoverInterrupted(this.target, this.journal, this.ctx);
  }

  /** Everything but the plain files is removed, as by `docker compose down --volumes`. */
  removeAll(): void {
    for (const name of serviceNames) {
      this.removed.add(name);
      this.running.delete(name);
    }
    for (const name of names)
      if (shapes[name].service !== undefined)
        Object.assign(this.stores[name], { live: 'none', previous: undefined, staged: false });
  }

  /** One generation in every store: which. */
  generation(): 'old' | 'new' | 'none' | 'mixed' {
    const [first, ...rest] = names.map((name) => this.stores[name].live);
    return first !== undefined && rest.every((live) => live === first) ? first : 'mixed';
  }

  get before(): 'old' | 'none' {
    return this.#hadLive ? 'old' : 'none';
  }

  get staged(): Name[] {
    return names.filter((name) => this.stores[name].staged);
  }

  get down(): ServiceName[] {
    return serviceNames.filter((name) => !this.running.has(name));
  }

  get ctx(): OperationContext {
    return {
      signal: this.#abort.signal,
      clock: {
        now: () => new Date(this.#nowMs),
        monotonicMs: () => this.#nowMs,
        sleep: (ms, signal) => {
          signal.throwIfAborted();
          // Long enough that a service which never answers is given up after a few looks.
          this.#nowMs += ms * 200;
          return Promise.resolve();
        },
      },
      log: {
        debug: () => undefined,
        info: () => undefined,
        warn: (message) => this.warnings.push(message),
      },
      progress: { start: () => ({ advance: () => undefined, finish: () => undefined }) },
    };
  }

  get target(): RestoreTarget {
    return {
      stack: 'world',
      components: names.map((name) => this.#component(name)),
      runtime: this.#runtime(),
    };
  }

  get journal(): RestoreJournal {
    return {
      claim: () => Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() }),
      write: (entry) =>
        this.#call(`journal ${entry.phase}`, () => void (this.entry = structuredClone(entry))),
      mayHaveLeft: () => Promise.resolve(this.entry !== undefined),
      wayBackFile: (restoreId) => `way-back-${restoreId}`,
      remove: () => this.#call('journal remove', () => void (this.entry = undefined)),
      pending: () =>
        Promise.resolve(
          this.entry === undefined || this.entry.phase === 'done'
            ? []
            : // Whose it is must not matter: nobody else has the claim.
              [{ entry: this.entry, alive: true }],
        ),
    };
  }

  /** Every effect on the world goes through here. */
  #call<T>(name: string, work: () => T): Promise<T> {
    this.calls.push(name);
    const kind = [this.fault, this.alsoAt].find((fault) => fault?.at === this.calls.length)?.kind;
    if (kind === 'crash') this.#crashed = true;
    if (kind === 'stuck') this.#stuck = name;
    if (kind === 'abort') this.#abort.abort();
    const failed = new TarsError('storage-failed', `injected at call ${this.calls.length}: ${name}`);
    if (this.#crashed || this.#stuck === name || this.broken === name || kind === 'refuse')
      return Promise.reject(failed);
    const value = work();
    return kind === 'late' ? Promise.reject(failed) : Promise.resolve(value);
  }

  #require(holds: boolean, rule: string): void {
    if (!holds) this.violations.push(`call ${this.calls.length}: ${rule}`);
  }

  /** Data may be exchanged only in the state it asks for, and only when the journal knows of it. */
  #requireExchangeable(name: Name, what: string): void {
    const { service, offline } = shapes[name];
    if (service !== undefined)
      this.#require(
        this.running.has(service) !== offline,
        `${what} ${name} while its server was ${offline ? 'up' : 'down'}`,
      );
    const known = this.entry?.phase === 'swapping' && this.entry.records.some((r) => r.component === name);
    this.#require(known, `${what} ${name} without the journal knowing`);
  }

  #component(name: Name): Component {
    const store = this.stores[name];
    const { service, offline } = shapes[name];
    const never = (): Promise<never> => Promise.reject(new Error('not part of a restore'));
    const removeStaged = (): void => void (store.staged = false);
    const staged: Staged = {
      record: { component: name, kind: 'fake', wayBack: [`back ${name}`], details: {} },
      replaces: undefined,
      verify: () => this.#call(`verify staged ${name}`, () => []),
      swap: () =>
        this.#call(`swap ${name}`, () => {
          this.#requireExchangeable(name, 'swapped');
          this.#require(store.staged, `swapped ${name} without anything staged`);
          store.previous = store.live === 'old' ? 'old' : undefined;
          store.live = 'new';
          store.staged = false;
          if (name === 'plain' && this.supervised !== undefined) this.running.add(this.supervised);
        }),
      discard: ({ signal }) =>
        this.#call(`discard ${name}`, () => {
          this.#require(!signal.aborted, `discarded ${name} on a signal that has aborted`);
          removeStaged();
        }),
    };
    return {
      name,
      kind: 'fake',
      service,
      places: () => Promise.resolve(service === undefined ? [] : [{ store: '/data', service }]),
      probe: never,
      prepare: never,
      ready: () =>
        this.#call(`ready ${name}`, () => {
          if (service !== undefined && !this.running.has(service))
            throw new TarsError('service-unavailable', `${name} is down`);
        }),
      planRestore: () =>
        Promise.resolve({
          plan: {
            component: name,
            kind: 'fake',
            steps: [],
            warnings: [],
            artifacts: [],
            requires: {
              stopped: offline ? [service] : [],
              running: service !== undefined && !offline ? [service] : [],
            },
            space: [],
          },
          stage: () =>
            this.#call(`stage ${name}`, () => {
              this.#require(this.entry !== undefined, `staged ${name} without the journal knowing`);
              store.staged = true;
              return staged;
            }),
        }),
      removeStaged: () =>
        this.#call(`remove staged ${name}`, () => {
          if (service !== undefined && this.removed.has(service))
            throw new ServiceUnavailableError(`There is no container of ${name}`);
          if (service !== undefined && !offline && !this.running.has(service))
            throw new ServiceUnavailableError(`${name} is down`);
          removeStaged();
        }),
      generation: () => ({
        undo: () =>
          this.#call(`undo ${name}`, () => {
            if (this.withoutPrevious.has(name)) throw new PreviousDataGoneError(`no previous ${name}`);
            if (store.live === 'new') this.#requireExchangeable(name, 'undid');
            if (store.live === 'new') store.live = store.previous ?? 'none';
            store.previous = undefined;
            store.staged = false;
          }),
        discardPrevious: () =>
          this.#call(`discard previous ${name}`, () => {
            this.#require(store.live === 'new', `discarded the previous ${name}, which was live`);
            this.#require(
              this.entry?.records.length === 0,
              `the journal still offers the way back of ${name}`,
            );
            store.previous = undefined;
          }),
      }),
      verify: () =>
        this.#call(`compare ${name}`, () =>
          store.live === 'new' && this.differs !== name
            ? []
            : [{ severity: 'error', subject: name, code: 'differs', message: 'differs' } as const],
        ),
    };
  }

  #runtime(): Runtime {
    const service = (name: ServiceName): Service => ({
      name,
      state: this.running.has(name) ? 'running' : 'stopped',
      dependsOn: dependsOn[name],
      writer: name === 'app',
      canPause: false,
      canStop: true,
      ...(this.removed.has(name) ? { missing: true } : {}),
    });
    const mountOf = (name: 'files' | 'databases'): ServiceMount => ({
      ...{ service: name, type: 'volume', source: `${name}-volume`, path: `/volumes/${name}` },
      ...{ destination: '/data', measure: () => Promise.resolve(0) },
    });
    return {
      discover: () => this.#call('discover', () => serviceNames.map(service)),
      mounts: () => Promise.resolve([mountOf('files'), mountOf('databases')]),
      areGone: (mounts) =>
        Promise.resolve(mounts.every(({ service: name }) => this.removed.has(name as ServiceName))),
      resumeActions: () => Promise.resolve([]),
      pause: () => Promise.resolve(),
      resume: () => Promise.resolve(),
      stop: (name) =>
        this.#call(`stop ${name}`, () => {
          const known = [...(this.entry?.stopped ?? []), ...(this.entry?.offline ?? [])];
          this.#require(known.includes(name), `stopped ${name} without the journal knowing`);
          this.running.delete(name as ServiceName);
        }),
      start: (name) =>
        this.#call(`start ${name}`, () => {
          if (this.removed.has(name as ServiceName))
            throw new ServiceUnavailableError(`There is no container of ${name}`);
          this.running.add(name as ServiceName);
        }),
    };
  }

  #source(): SnapshotSource {
    const components = names.map((name): ComponentManifest => ({
      name,
      kind: 'fake',
      outcome: 'captured',
      facts: {},
      artifacts: [],
    }));
    const summary = {
      id: 'f'.repeat(64),
      time: '2026-11-24T00:00:00Z',
      hostname: 'h',
      username: 'u',
      paths: [],
      tags: [],
    };
    return {
      summary: summary as unknown as SnapshotSource['summary'],
      manifest: () =>
        Promise.resolve({
          schemaVersion: 1,
          stack: 'world',
          toolVersion: '0',
          hostname: 'h',
          time: summary.time,
          startedAt: summary.time,
          finishedAt: summary.time,
          consistency: 'cut',
          outcome: 'complete',
          components,
          notCaptured: [],
        }),
      entries: () => assert.fail('nothing is read'),
      open: () => assert.fail('nothing is read'),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
}
