import type { Service } from '../../ports/runtime.ts';
import { readProcess } from '../process-table.ts';
import { runCommand, type CommandLimits } from './command.ts';

/** What systemd says about a unit; `ActiveState` and `MainPID` of org.freedesktop.systemd1(5). */
interface UnitReading {
  readonly state: Service['state'];
  /** Of a unit that runs, where systemd knows it: not for oneshot units, nor for daemons that fork without a PIDFile. */
  readonly mainPid?: number;
}

const showTimeoutMs = 10_000;

/** `paused` when its main process is. */
export async function unitState(unit: string, signal?: AbortSignal): Promise<Service['state']> {
  const { state, mainPid } = await readUnit(unit, signal);
  const main = mainPid === undefined ? undefined : await readProcess(mainPid);
  return state === 'running' && main?.state === 'T' ? 'paused' : state;
}

/** A unit that nobody has installed is stopped. Where systemd does not answer the state is unknown. */
export async function readUnit(unit: string, signal?: AbortSignal): Promise<UnitReading> {
  const limits: CommandLimits = { timeoutMs: showTimeoutMs, ...(signal === undefined ? {} : { signal }) };
  const { output } = await runCommand(
    ['systemctl', 'show', '--property=ActiveState,MainPID', '--', unit],
    limits,
  );
  const activeState = /^ActiveState=(.+)$/m.exec(output)?.[1];
  if (activeState === undefined) return { state: 'unknown' };
  if (activeState === 'inactive' || activeState === 'failed') return { state: 'stopped' };
  // "activating" and "deactivating" hold the data as well.
  const mainPid = Number(/^MainPID=(\d+)$/m.exec(output)?.[1] ?? 0);
  return { state: 'running', ...(mainPid > 0 ? { mainPid } : {}) };
}
