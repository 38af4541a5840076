import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Diagnosis } from '../../operations/doctor/doctor.ts';
import { renderDiagnoses } from './diagnoses.ts';

const disk = 'The repository is on the same disk as /var/lib/a-directory-with-a-long-name';
const diagnoses: readonly Diagnosis[] = [
  { check: 'disks', state: 'warning', found: disk, hint: 'Keep a copy of it elsewhere: in another house.' },
  {
    check: 'redis',
    state: 'error',
    found: 'It is stopped',
    hint: 'Start it: docker compose -p home start redis',
  },
];

test('on a terminal, prose is broken between words and commands are left whole', () => {
  assert.deepEqual(renderDiagnoses(diagnoses, 40).split('\n'), [
    '       CHECK  FOUND',
    'WARN   disks  The repository is on the',
    '              same disk as',
    '              /var/lib/a-directory-with-a-long-name',
    '              > Keep a copy of it',
    '              elsewhere: in another',
    '              house.',
    'ERROR  redis  It is stopped',
    '              > Start it:',
    '              docker compose -p home start redis',
    '1 error, 1 warning: a backup or a restore would fail',
  ]);
});

test('elsewhere every finding is one line', () => {
  assert.ok(renderDiagnoses(diagnoses).split('\n').includes(`WARN   disks  ${disk}`));
});
