import assert from 'node:assert/strict';
import { test } from 'node:test';
import { programsOf } from './container-programs.ts';

const namesIn = (...argv: readonly string[]): string =>
  programsOf({ argv })
    .map(({ name, args }) => [name, ...args].join(' '))
    .join('; ');

test('the programs that a container starts, through entrypoints, starters and shells', () => {
  const cases: readonly (readonly [readonly string[], string])[] = [
    [['docker-entrypoint.sh', 'postgres', '-c', 'max_connections=5'], 'postgres -c max_connections=5'],
    [['/usr/local/bin/docker-entrypoint.sh', '--appendonly', 'yes'], 'docker-entrypoint.sh --appendonly yes'],
    [['docker-entrypoint.sh', '-x'], 'docker-entrypoint.sh -x'],
    [['redis-cli', '-h', 'cache', 'set', 'a', 'one two'], 'redis-cli -h cache set a one two'],
    [['tini', '-g', '--', '/entrypoint.sh', 'gosu', 'redis', 'redis-server'], 'redis-server'],
    [['/bin/ollama', 'serve'], 'ollama serve'],
    [['docker-entrypoint.sh', 'redis-server --save "" --port 1'], 'redis-server --save  --port 1'],
    [['/init.sh'], 'init.sh'],
    [['sh', '/scripts/init.sh'], 'init.sh'],
    [['/bin/sh', '-c', 'sleep 3; ollama pull llama3.2'], 'sleep 3; ollama pull llama3.2'],
    [
      ['sh', '-ec', 'ollama serve & sleep 5 && exec ollama run x; wait'],
      'ollama serve; sleep 5; ollama run x; wait',
    ],
    [
      [
        'bash',
        '-c',
        'until pg_isready -U postgres >/dev/null 2>&1; do sleep 1; done\npsql -c "CREATE TABLE a; DROP b"',
      ],
      'pg_isready -U postgres; sleep 1; psql -c _',
    ],
    [
      [
        'sh',
        '-c',
        'PGPASSWORD=${PW:-x} psql -h db <<EOF # nothing\nif [ "$(redis-cli ping)" = PONG ]; then echo ok; fi',
      ],
      'psql -h db; [ _ = PONG ]; echo ok',
    ],
    [[], ''],
  ];
  for (const [argv, found] of cases) assert.equal(namesIn(...argv), found, argv.join(' '));
});
