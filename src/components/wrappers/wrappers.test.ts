import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TarsError } from '../../model/errors.ts';
import type { Component } from '../../ports/component.ts';
import type { OperationContext } from '../../ports/context.ts';
import { createAtRiskComponent } from './at-risk.ts';
import { createKeptApart } from './kept-apart.ts';
import { createPlacedComponent } from '../remote/placed.ts';

test('what stands around a component hands on what it may say of its places and of what restores left', async () => {
  const ctx = {} as OperationContext;
  const inner = {
    ...{ name: 'store', kind: 'files', service: 'app' },
    places: () => Promise.resolve([{ tree: '/inner' }]),
    leftovers: () => Promise.resolve([{ what: 'left', remove: 'rm left' }]),
    leftOut: () => Promise.resolve([{ subject: 'out', reason: 'it is' }]),
  } as unknown as Component;
  const places = (): ReturnType<NonNullable<Component['places']>> => Promise.resolve([{ tree: '/inner' }]);
  const question = { name: 'store', own: ['/inner'], leavesOut: 'parts', reserved: [] } as const;
  const around = {
    kept: createKeptApart({ ...question, build: () => inner }),
    atRisk: createAtRiskComponent(inner, new TarsError('configuration', 'it may be lost'), {
      canRestore: true,
    }),
    placed: createPlacedComponent({
      ...{ name: 'store', kind: 'files', service: 'app', places },
      where: () => Promise.resolve('here'),
      locate: () => Promise.resolve(inner),
    }),
  };
  for (const [what, outer] of Object.entries(around)) {
    assert.deepEqual(await outer.leftovers?.(ctx), await inner.leftovers?.(ctx), what);
    assert.deepEqual(await outer.places?.(ctx), await inner.places?.(ctx), what);
    // What is kept apart knows that itself.
    if (what !== 'kept') assert.deepEqual(await outer.leftOut?.(ctx), await inner.leftOut?.(ctx), what);
  }
});
