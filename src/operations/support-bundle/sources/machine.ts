import { readFile } from 'node:fs/promises';
import { arch, availableParallelism, freemem, hostname, release, totalmem, type } from 'node:os';
import { toTarsError } from '../../../model/errors.ts';
import { toolVersion } from '../../../model/version.ts';
import type { AskProgram, ContainerInspector } from '../../../ports/support.ts';
import { report, type SupportSource } from '../source.ts';

const programs = [
  'restic',
  'pg_dump',
  'pg_restore',
  'redis-cli',
  'redis-server',
  'docker',
  'systemctl',
] as const;
const answerBytesMax = 4096;
/** A version is printed at once. */
const answerMs = 5000;

/** Versions of tars, of what it runs on, and of the programs that it may use. */
export const versionsSource = (
  ask: AskProgram,
  inspector: ContainerInspector | undefined,
): SupportSource => ({
  name: 'versions',
  async collect({ signal }) {
    const [system, engine, ...printed] = await Promise.all([
      distribution(),
      engineVersion(inspector, signal),
      ...programs.map((program) => versionOf(program, ask, signal)),
    ]);
    return {
      files: [
        report('versions.json', 'tars', {
          tars: toolVersion,
          node: process.versions.node,
          ...{ system, kernel: `${type()} ${release()}`, architecture: arch(), host: hostname() },
          ...{ processors: availableParallelism(), memoryBytes: totalmem(), freeMemoryBytes: freemem() },
          engine,
          programs: Object.fromEntries(programs.map((program, i) => [program, printed[i]])),
        }),
      ],
    };
  },
});

async function distribution(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? 'unknown';
}

async function versionOf(program: string, ask: AskProgram, signal: AbortSignal): Promise<string> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(answerMs)]);
  const asked = program === 'restic' ? 'version' : '--version';
  const answer = await ask([program, asked], answerBytesMax, limited);
  if ('failure' in answer) return answer.failure;
  return Buffer.from(answer.bytes).toString('utf8').split('\n')[0]?.trim() ?? '';
}

async function engineVersion(
  inspector: ContainerInspector | undefined,
  signal: AbortSignal,
): Promise<unknown> {
  if (inspector === undefined) return 'not used';
  const limited = AbortSignal.any([signal, AbortSignal.timeout(answerMs)]);
  return inspector
    .version(limited)
    .catch((error: unknown) => toTarsError(error, 'It does not answer').message);
}
