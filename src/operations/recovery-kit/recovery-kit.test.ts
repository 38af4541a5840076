import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ComponentManifest, Manifest } from '../../model/manifest.ts';
import { recoveryPhases, type RecoveryPhase } from '../../ports/kind.ts';
import { recoverySteps, type ComponentRecovery } from './recovery-kit.ts';

const captured = (name: string): ComponentManifest => ({
  ...{ name, kind: 'some', outcome: 'captured', facts: {}, artifacts: [] },
});

/** In the phase that its name says. */
const recoveryOf = ({ name }: ComponentManifest): ComponentRecovery | undefined => {
  const phase = recoveryPhases.find((each): each is RecoveryPhase => name.startsWith(each));
  return phase && { phase, home: {}, step: () => ({ title: name, text: [], commands: [] }) };
};

const manifest: Manifest = {
  ...{ schemaVersion: 1, stack: 's', toolVersion: '0', hostname: 'h', consistency: 'cut', notCaptured: [] },
  ...{ time: '2026-11-24T00:00:00Z', startedAt: '2026-11-24T00:00:00Z', finishedAt: '2026-11-24T00:00:00Z' },
  outcome: 'partial',
  compose: {
    project: 'p',
    workingDir: '/p',
    composeFiles: ['/p/compose.yaml'],
    envFiles: [],
    services: [],
    volumes: [],
  },
  components: [
    captured('running'),
    captured('stopped'),
    captured('of no known kind'),
    { ...captured('directories-lost'), outcome: 'failed' },
    captured('directories-2'),
    captured('configuration'),
    captured('directories-1'),
  ],
};

test('configuration comes first, then containers, directories, stores that are down, and those that run', () => {
  const facts = { stack: 's', hostname: 'h', repository: '/r', repositoryId: 'i', keyCheck: 'k', starts: [] };
  const titles = recoverySteps({ ...facts, manifest, recoveryOf }).map(({ title }) => title);
  assert.deepEqual(titles, [
    'Open the repository',
    'Extract the newest snapshot',
    'configuration',
    'Create the Compose project p',
    'directories-2',
    'directories-1',
    'stopped',
    'running',
    'Start everything',
  ]);
});
