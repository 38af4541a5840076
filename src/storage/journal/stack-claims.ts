import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RepositoryLockedError, toTarsError } from '../../model/errors.ts';
import type { ClaimHolder, ClaimName, StackClaims } from '../../ports/run-log.ts';
import { replaceDurably } from '../../disk/durable-file.ts';
import { lockFile } from '../../disk/kernel-lock.ts';
import { hasEnded, processStartOf } from '../../disk/process-identity.ts';
import type { RunOwner } from './run-log.ts';

/** A holder of a moment, who only looks, must not be taken for another run. */
const waitMs = 500;

const holderSchema = z.object({
  verb: z.string(),
  pid: z.int(),
  processStart: z.string(),
  since: z.coerce.date(),
});

/** Claims of a stack on a host, for one repository, as locked files in `directory`; beside each stands who holds it, for the message to others. */
export function createStackClaims(directory: string, owner: RunOwner): StackClaims {
  const { stack, host, repository } = owner;
  const lockPath = (name: ClaimName): string => join(directory, `${stack}.${key()}.${name}.lock`);
  const holderPath = (name: ClaimName): string => join(directory, `${stack}.${key()}.${name}.json`);
  const key = (): string =>
    createHash('sha256')
      .update(`${host}\0${repository.read().id ?? ''}`)
      .digest('hex')
      .slice(0, 12);

  const holder = async (name: ClaimName): Promise<ClaimHolder | undefined> => {
    const text = await readFile(holderPath(name), 'utf8').catch(() => '');
    const parsed = holderSchema.safeParse(parseJson(text));
    if (!parsed.success) return undefined;
    const { processStart, ...rest } = parsed.data;
    return processStart !== '' && !hasEnded(rest.pid, processStart) ? rest : undefined;
  };

  return {
    holder,
    async claim(name, verb, at) {
      const path = holderPath(name);
      let lock: Disposable | undefined;
      try {
        lock = lockFile(lockPath(name), waitMs);
        if (lock !== undefined) {
          const { pid } = process;
          const content = { verb, pid, processStart: processStartOf(pid), since: at.toISOString() };
          await replaceDurably(path, `${JSON.stringify(content)}\n`);
        }
      } catch (error) {
        lock?.[Symbol.dispose]();
        throw toTarsError(error, `Cannot lock ${path}, which keeps other runs of ${stack} out`);
      }
      if (lock === undefined) throw excluded(stack, await holder(name));
      return {
        [Symbol.dispose]: () => {
          rmSync(path, { force: true });
          lock[Symbol.dispose]();
        },
      };
    },
  };
}

function excluded(stack: string, holder: ClaimHolder | undefined): RepositoryLockedError {
  const which = holder === undefined ? 'tars' : `tars ${holder.verb}`;
  const who =
    holder === undefined ? '' : ` (pid ${holder.pid}, since ${holder.since.toISOString().slice(0, 19)}Z)`;
  return new RepositoryLockedError(`A ${which} of ${stack} is running in another process${who}`, {
    hint: 'Wait for it to end, then run this again.',
    ...(holder === undefined
      ? {}
      : { context: { pid: holder.pid, verb: holder.verb, since: holder.since.toISOString() } }),
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
