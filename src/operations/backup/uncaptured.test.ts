import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingFrom, outcomeTags } from '../../model/manifest.ts';
import type { Component } from '../../ports/component.ts';
import type { PlaceNote } from '../../ports/place-notes.ts';
import type { Runtime, ServiceMount } from '../../ports/runtime.ts';
import { testContext } from '../../../test/fixtures/context.ts';
import { uncapturedMounts } from './uncaptured.ts';

const mount = (service: string, destination: string, path: string): ServiceMount => ({
  ...{ service, destination, path, type: 'volume', source: path.slice(1) },
  measure: () => Promise.resolve(7),
});

const runtime = {
  mounts: () =>
    Promise.resolve([
      mount('web', '/data', '/a'),
      mount('worker', '/srv', '/a'),
      mount('web', '/cache', '/b'),
      mount('web', '/nas', '/c'),
    ]),
  unusedVolumes: () =>
    Promise.resolve([{ name: 'old', path: '/old', measure: () => Promise.resolve(undefined) }]),
} as unknown as Runtime;

const notes = (...placeNotes: PlaceNote[]): Promise<readonly unknown[]> =>
  uncapturedMounts({ components: [], runtime, placeNotes }, testContext()).then((found) =>
    found.map(({ subject, status, reason }) => [subject, status, reason]),
  );

test('nobody has said that what no component captures may be missing', async () => {
  const found = await uncapturedMounts({ components: [], runtime }, testContext());
  assert.deepEqual(
    found.map(({ subject, status }) => [subject, status]),
    [
      ...[
        ['web:/cache', 'missing'],
        ['web:/data', 'missing'],
        ['web:/nas', 'missing'],
      ],
      ...[
        ['worker:/srv', 'missing'],
        ['volume old', 'missing'],
      ],
    ],
  );
  const captured = {
    places: () => Promise.resolve([{ tree: '/data', service: 'web' }]),
  } as unknown as Component;
  const rest = await uncapturedMounts({ components: [captured], runtime }, testContext());
  assert.ok(!rest.some(({ subject }) => subject === 'worker:/srv'), 'one place, however many paths');
});

test('what tars.yaml leaves out is quiet at every path that shows it; what cannot be captured says why', async () => {
  const leaveOut: PlaceNote[] = [
    { place: { tree: '/srv', service: 'worker' }, reason: 'old', mayBeMissing: true },
    { place: { volume: 'b' }, reason: 'a cache', mayBeMissing: true },
    { place: { volume: 'old' }, reason: 'of last year', mayBeMissing: true },
  ];
  assert.deepEqual(
    await notes(...leaveOut, { place: { tree: '/c' }, reason: 'a NAS', mayBeMissing: false }),
    [
      ['web:/cache', 'left-out', 'a cache'],
      ['web:/data', 'left-out', 'old'],
      ['web:/nas', 'missing', 'volume c, which no component captures: a NAS'],
      ['worker:/srv', 'left-out', 'old'],
      ['volume old', 'left-out', 'of last year'],
    ],
  );
});

test('a snapshot that lacks a place is not whole, also one of a version that did not say so', () => {
  const place = { subject: 'web:/data', reason: 'r' };
  const mount = { service: 'web', type: 'volume', source: 'v', destination: '/data' } as const;
  const skipped = { subject: 'db', reason: 'skipped on request' };
  const leftOut = { ...place, mount, status: 'left-out' } as const;
  assert.deepEqual(missingFrom({ notCaptured: [skipped, leftOut] }), []);
  assert.deepEqual(outcomeTags({ outcome: 'complete', notCaptured: [skipped, leftOut] }), []);
  const missing = [
    { ...place, mount },
    { ...place, status: 'missing' as const },
  ];
  assert.equal(missingFrom({ notCaptured: missing }).length, 2);
  assert.deepEqual(outcomeTags({ outcome: 'partial', notCaptured: missing }), ['partial', 'not-whole']);
});

test('what is said of a place with a part left out does not hold for what else is mounted in it', async () => {
  const inner = {
    ...{ mounts: () => Promise.resolve([mount('app', '/p', '/p'), mount('cache', '/data', '/p/cache')]) },
  } as unknown as Runtime;
  const placeNotes: PlaceNote[] = [
    { place: { tree: '/p', service: 'app' }, reason: 'excluded', mayBeMissing: true, isOfPlaceAlone: true },
  ];
  const found = await uncapturedMounts({ components: [], runtime: inner, placeNotes }, testContext());
  assert.deepEqual(
    found.map(({ subject, status }) => [subject, status]),
    [
      ['app:/p', 'left-out'],
      ['cache:/data', 'missing'],
    ],
  );
});
