import { startProgram } from '../../disk/start-program.ts';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { replaceDurably } from '../../disk/durable-file.ts';
import { whenMissing } from '../../disk/is-there.ts';
import { configDirectory } from '../../disk/home.ts';
import { throwIfAborted } from '../../model/abort.ts';
import { ConfigurationError, isDenied, TarsError, toTarsError } from '../../model/errors.ts';
import type { OperationContext } from '../../ports/context.ts';
import type { ScheduleChange, ScheduledName, SchedulePlan, Scheduler } from '../../ports/scheduler.ts';
import { childEnvironment } from '../child-environment.ts';
import { runsSettings, stackOfUnit, systemdUnits, unitMarker, unitNames } from './systemd-units.ts';

/** Whether systemd runs this machine, as sd_booted(3) decides it. */
export const systemdRuns = (): boolean => existsSync('/run/systemd/system');

/** Timers of the system, or of the user who runs this. */
export function createSystemdScheduler(user: boolean): Scheduler {
  const directory = user ? join(configDirectory(process.env), 'systemd/user') : '/etc/systemd/system';
  const systemctl = user ? ['systemctl', '--user'] : ['systemctl'];
  return {
    name: 'systemd',
    runs: () => Promise.resolve(systemdRuns()),
    async planInstall(stack, ctx) {
      const units = new Systemd(directory, systemctl, stack);
      return units.plan(
        unitsOf(() => systemdUnits(stack, user)),
        ctx,
      );
    },
    planRemove: (stack, ctx) => new Systemd(directory, systemctl, stack).plan(new Map(), ctx),
  };
}

function unitsOf(make: () => ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigurationError(`systemd cannot run the schedule of ${error.message}`, { cause: error });
  }
}

/** The units of one `tars.yaml` in one directory. */
class Systemd {
  readonly #directory: string;
  readonly #systemctl: readonly string[];
  readonly #name: ScheduledName;

  constructor(directory: string, systemctl: readonly string[], name: ScheduledName) {
    this.#directory = directory;
    this.#systemctl = systemctl;
    this.#name = name;
  }

  /** The plan after which exactly `wanted` is there. */
  async plan(wanted: ReadonlyMap<string, string>, ctx: OperationContext): Promise<SchedulePlan> {
    const leftovers = await this.#leftovers();
    const names = [...leftovers, this.#name.stack].flatMap(unitNames);
    const found = await this.#found(names);
    const changes = names.flatMap((name): ScheduleChange[] => {
      const what = join(this.#directory, name);
      const text = wanted.get(name);
      if (text === found.get(name)) return [];
      if (text === undefined) return [{ action: 'remove', what, text: '' }];
      return [{ action: found.has(name) ? 'replace' : 'create', what, text }];
    });
    const timers = [...wanted.keys()].filter(isTimer);
    const gone = [...found.keys()].filter((name) => isTimer(name) && !wanted.has(name));
    const idle = changes.length === 0 && (await this.#allActive(timers, ctx));
    const disabling = gone.length === 0 ? [] : [[...this.#systemctl, 'disable', '--now', ...gone]];
    const reloading = changes.length === 0 ? [] : [[...this.#systemctl, 'daemon-reload']];
    const enabling =
      timers.length === 0 || idle
        ? []
        : [
            [...this.#systemctl, 'enable', ...timers],
            // A timer that runs already takes its new times only so.
            [...this.#systemctl, 'restart', ...timers],
          ];
    return {
      state: found.size === 0 ? 'absent' : changes.length === 0 && idle ? 'installed' : 'differs',
      leftovers,
      changes,
      commands: [...disabling, ...reloading, ...enabling],
      execute: async (context) => {
        for (const command of disabling) await run(command, context);
        for (const change of changes) await this.#apply(change);
        for (const command of [...reloading, ...enabling]) await run(command, context);
      },
    };
  }

  /** Stacks of other names that the same `tars.yaml` had. */
  async #leftovers(): Promise<readonly string[]> {
    const { stack, command } = this.#name;
    const files = await readdir(this.#directory).catch(
      whenMissing<string[]>([], `Cannot list ${this.#directory}`),
    );
    const others = new Set<string>();
    for (const file of files) {
      const other = stackOfUnit(file);
      if (other === undefined || other === stack || others.has(other)) continue;
      if (runsSettings((await this.#read(file)) ?? '', command)) others.add(other);
    }
    return [...others].sort();
  }

  async #read(file: string): Promise<string | undefined> {
    const path = join(this.#directory, file);
    return readFile(path, 'utf8').catch(whenMissing(undefined, `Cannot read ${path}`));
  }

  /** @throws ConfigurationError for a unit of that name that somebody else wrote */
  async #found(names: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const name of names) {
      const text = await this.#read(name);
      if (text === undefined) continue;
      if (!text.startsWith(unitMarker)) {
        throw new ConfigurationError(
          `${join(this.#directory, name)} was not written by tars schedule install`,
          {
            hint: 'Move it away, or give the stack another name.',
          },
        );
      }
      found.set(name, text);
    }
    return found;
  }

  async #allActive(timers: readonly string[], ctx: OperationContext): Promise<boolean> {
    if (!systemdRuns()) return true;
    const [program = '', ...flags] = this.#systemctl;
    // Asked about several at once it answers yes when any is.
    for (const timer of timers) {
      for (const verb of ['is-active', 'is-enabled']) {
        const args = [...flags, verb, '--quiet', timer];
        const { exitCode } = await startProgram(program, args, { reject: false }, ctx.signal);
        if (exitCode !== 0) return false;
      }
    }
    return true;
  }

  async #apply({ action, what, text }: ScheduleChange): Promise<void> {
    try {
      if (action === 'remove') {
        await rm(what);
        return;
      }
      await mkdir(this.#directory, { recursive: true });
      await replaceDurably(what, text, { mode: 0o644 });
    } catch (error) {
      const failed = toTarsError(error, `Cannot ${action} ${what}`);
      if (!isDenied(error)) throw failed;
      throw new TarsError(failed.code, failed.message, {
        hint: 'Run this as root, or with --user for timers of your own.',
        cause: error,
      });
    }
  }
}

const isTimer = (name: string): boolean => name.endsWith('.timer');

async function run([program = '', ...args]: readonly string[], ctx: OperationContext): Promise<void> {
  const result = await startProgram(
    program,
    args,
    {
      reject: false,
      stdin: 'ignore',
      env: childEnvironment(),
      extendEnv: false,
    },
    ctx.signal,
  );
  if (result.exitCode === 0) return;
  throwIfAborted(ctx.signal);
  const said = result.stderr.trim();
  throw new TarsError(
    'subprocess',
    `${[program, ...args].join(' ')} failed${said === '' ? '' : `: ${said}`}`,
    {
      hint: 'Fix the reported problem, then run this again. It adds what is missing.',
    },
  );
}
