import type { ContainerInspectInfo } from 'dockerode';
import type { Finding } from '../../../model/finding.ts';
import { hideSecrets, secretsOfEnvironment } from '../../../model/hide-secrets.ts';
import type { RecordedService } from '../../../model/manifest.ts';
import type { OperationContext } from '../../../ports/context.ts';
import { engineError, type Engine } from '../engine/engine.ts';
import type { ProjectContainer } from '../project/project.ts';

const pollMs = 250;
/** Beside what the health check itself allows. */
const slackMs = 15_000;
/** How long a container that its health check has given up on may take to get well after all. */
const secondThoughtMs = 5000;
const graceMaxMs = 600_000;
const logLines = 12;

/** Times of a health check, in nanoseconds; what is left out has the Engine's defaults. */
interface HealthCheck {
  readonly Test?: readonly string[] | null;
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly Retries?: number;
  readonly StartPeriod?: number;
}

/**
 * Waits until the container is as well as its service was at the capture.
 * @param then undefined where nothing is recorded: healthy is expected then
 */
export async function awaitContainerHealth(
  engine: Engine,
  { id, service }: ProjectContainer,
  then: RecordedService | undefined,
  ctx: OperationContext,
): Promise<readonly Finding[]> {
  let deadlineMs = Infinity;
  for (;;) {
    const info = await inspect(engine, id, service);
    const check = (info.Config as { Healthcheck?: HealthCheck | null }).Healthcheck ?? undefined;
    const expectsHealthy = hasCheck(check) && (then === undefined || then.health === 'healthy');
    const { Running: running, Restarting: restarting, Health: health } = info.State;
    if (running && !restarting && (!expectsHealthy || health?.Status === 'healthy')) return [];
    const ended = !running && !restarting;
    if (ended && then?.state === 'stopped') return [];
    const givenUp = expectsHealthy && health?.Status === 'unhealthy';
    const graceMs = givenUp ? secondThoughtMs : graceMsOf(check);
    deadlineMs = Math.min(deadlineMs, ctx.clock.monotonicMs() + graceMs);
    if (ended || ctx.clock.monotonicMs() >= deadlineMs) return [await finding(engine, info, service)];
    await ctx.clock.sleep(pollMs, ctx.signal);
  }
}

const hasCheck = (check: HealthCheck | undefined): boolean =>
  check?.Test !== undefined && check.Test !== null && check.Test[0] !== 'NONE' && check.Test.length > 0;

/** The longest an unhealthy start can take until the Engine says so, and some. */
function graceMsOf(check: HealthCheck | undefined): number {
  if (!hasCheck(check)) return slackMs;
  const ms = (nanoseconds: number | undefined, defaultMs: number): number =>
    nanoseconds === undefined || nanoseconds === 0 ? defaultMs : nanoseconds / 1e6;
  const retries = check?.Retries === undefined || check.Retries === 0 ? 3 : check.Retries;
  const roundMs = ms(check?.Interval, 30_000) + Math.min(ms(check?.Timeout, 30_000), 30_000);
  return Math.min(ms(check?.StartPeriod, 0) + retries * roundMs + slackMs, graceMaxMs);
}

async function inspect(engine: Engine, id: string, service: string): Promise<ContainerInspectInfo> {
  try {
    return await engine.getContainer(id).inspect();
  } catch (error) {
    throw engineError(error, `Cannot inspect the container of ${service}`);
  }
}

async function finding(engine: Engine, info: ContainerInspectInfo, service: string): Promise<Finding> {
  const { Running: running, Restarting: restarting, ExitCode: exitCode, Health: health } = info.State;
  const state =
    running && !restarting
      ? `is ${health?.Status ?? 'not healthy'}`
      : `${restarting ? 'keeps ending' : 'has ended'} with exit code ${exitCode}`;
  const log = await logEnd(engine, info);
  return {
    severity: 'error',
    subject: service,
    code: 'service-unhealthy',
    message: `It ${state} after the restore. The end of its log:${log === '' ? ' (empty)' : `\n${log}`}`,
  };
}

/** The last lines that a container logged, indented, without what its environment holds as secrets. */
export async function logEndOf(engine: Engine, { id, service }: ProjectContainer): Promise<string> {
  return logEnd(engine, await inspect(engine, id, service));
}

async function logEnd(engine: Engine, info: ContainerInspectInfo): Promise<string> {
  try {
    const container = engine.getContainer(info.Id);
    const bytes = await container.logs({ stdout: true, stderr: true, tail: logLines, follow: false });
    const text = (info.Config.Tty ? bytes : demultiplexed(bytes)).toString('utf8');
    // Services print what they were given.
    return hideSecrets(text.trimEnd(), secretsOfEnvironment(info.Config.Env))
      .split('\n')
      .map((line) => `  | ${line.slice(0, 400)}`)
      .join('\n');
  } catch (error) {
    return `  (${engineError(error, 'It cannot be read').message})`;
  }
}

const frameHeaderBytes = 8;

/** Both outputs, in the order in which they were written: frames of a type, three zeros and a length. */
function demultiplexed(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at + frameHeaderBytes <= bytes.length;) {
    const end = at + frameHeaderBytes + bytes.readUInt32BE(at + 4);
    pieces.push(bytes.subarray(at + frameHeaderBytes, end));
    at = end;
  }
  return Buffer.concat(pieces);
}
