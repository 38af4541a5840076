import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testContext } from '../../../test/fixtures/context.ts';
import type { RestorePlan } from '../../model/restore-plan.ts';
import type { Component } from '../../ports/component.ts';
import type { Runtime, Service } from '../../ports/runtime.ts';
import { planServices, type PlannedComponent } from './plan.ts';

const service = (name: string, more: Partial<Service> = {}): Service => ({
  ...{ name, state: 'running', dependsOn: [], writer: false, canPause: true, canStop: true },
  ...more,
});

function planned(name: string, of: string, requires: RestorePlan['requires']): PlannedComponent {
  const plan = { component: name, kind: name, steps: [], warnings: [], artifacts: [], requires, space: [] };
  const component = { name, kind: name, service: of } as unknown as Component;
  return { component, plan, sizeBytes: 0, stage: () => Promise.reject(new Error('not staged')) };
}

test('a directory beside the data of a server that must run does not stop it, and restarts it', async () => {
  const runtime = {
    discover: () =>
      Promise.resolve([service('db'), service('web', { dependsOn: ['db'] }), service('worker')]),
  } as unknown as Runtime;
  const services = await planServices(
    [
      planned('postgres', 'db', { stopped: [], running: ['db'] }),
      planned('db-config', 'db', { stopped: ['db'], running: [] }),
      planned('data', 'web', { stopped: ['web', 'worker'], running: [] }),
    ],
    { stack: 's', components: [], runtime },
    testContext(),
  );
  assert.deepEqual([...services.stop].sort(), ['web', 'worker']);
  assert.deepEqual(services.restart, ['db']);
  assert.deepEqual([...services.offline].sort(), ['web', 'worker']);
});
