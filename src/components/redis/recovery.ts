import { z } from 'zod';
import type { RecoveryStep } from '../../model/recovery-kit.ts';
import { shellWord } from '../../model/shell-word.ts';
import { redisWord } from '../../model/redis-words.ts';
import type { RecoveryPart, RecoverySlot } from '../../ports/kind.ts';
import { ownFilesText, placeOf, serviceOf } from '../recovery-places.ts';
import { redisCliWords } from './settings.ts';
import type { RedisSettings } from './settings.ts';

const redisFacts = z.object({
  users: z.object({ file: z.string(), artifact: z.string() }).optional(),
  persistence: z.object({ dbFilename: z.string(), appendDirName: z.string(), appendFilename: z.string() }),
});

/**
 * An append-only server ignores dump.rdb, and overwrites it when it stops. So the snapshot is given as the base of its
 * log too: which of both the server's configuration asks for then makes no difference
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/, "Append-only file").
 */
function step(part: RecoveryPart, settings: RedisSettings | undefined): RecoveryStep {
  const { component } = part;
  const { persistence, users } = redisFacts.parse(component.facts);
  const { text, fill } = placeOf(part);
  const folder = `${component.name}/data`;
  const at = (path: string): string => shellWord(`${folder}/${path}`);
  const dump = shellWord(`${component.name}/dump.rdb`);
  const { dbFilename, appendDirName: log, appendFilename } = persistence;
  const base = `${appendFilename}.1.base.rdb`;
  // Such as `redis 7.0.15`. Since 7.0 the log is a directory.
  const hasLogDirectory = Number(/\d+/.exec(component.serverVersion ?? '')?.[0]) >= 7;
  const asLog = [
    `mkdir ${at(log)}`,
    `cp -p ${dump} ${at(`${log}/${base}`)}`,
    `printf '%s\\n' ${shellWord(`file ${redisWord(base)} seq 1 type b`)} > ${at(`${log}/${appendFilename}.manifest`)}`,
  ];
  return {
    title: `Redis (${component.name})`,
    text: [text],
    commands: [
      `mkdir -m 700 ${shellWord(folder)}`,
      `cp -p ${dump} ${at(dbFilename)}`,
      ...(hasLogDirectory ? asLog : []),
      `chown -R --reference=${dump} ${shellWord(folder)}`,
      ...fill(`${folder}/.`),
    ],
    then: [
      ...(hasLogDirectory
        ? []
        : [
            'If its configuration says appendonly yes, start it once with --appendonly no, then run: ' +
              `${redisCli(part, settings)} config set appendonly yes`,
          ]),
      ...(users === undefined
        ? []
        : [ownFilesText([{ path: users.file, artifact: users.artifact }], 'The users it had')]),
      `Once it runs, this counts its keys, with its password in REDISCLI_AUTH: ${redisCli(part, settings)} info keyspace`,
    ],
  };
}

/** In a container, redis-cli reaches the server at its usual place; addresses and files of this machine mean nothing. */
const redisCli = (part: RecoveryPart, settings: RedisSettings | undefined): string =>
  part.compose === undefined
    ? ['redis-cli', ...(settings === undefined ? [] : redisCliWords(settings)).map(shellWord)].join(' ')
    : `compose exec ${shellWord(serviceOf(part))} redis-cli`;

export const recovery: RecoverySlot<RedisSettings> = {
  phase: 'stopped',
  namesArtifacts: true,
  home: ({ service, data_dir: directory }) => ({ service, directory }),
  step,
};
