import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProjectMount } from '../project/mounts.ts';
import { freeName } from '../../../model/component-name.ts';
import { outermost, placesOf, type StatePlace } from './state-places.ts';

const origin = { project: 'shop', directory: '/srv/shop' };

function mount(service: string, source: string, destination: string, readOnly = false): ProjectMount {
  const isVolume = !source.startsWith('/');
  return {
    ...{ service, source, destination, readOnly },
    type: isVolume ? 'volume' : 'bind',
    path: isVolume ? `/var/lib/docker/volumes/${source}/_data` : source,
    measure: () => Promise.resolve(undefined),
  };
}

const shown = ({ name, shownBy, mounts }: StatePlace): string =>
  `${name} ${shownBy.service}:${shownBy.destination} ${mounts.length}`;

test('one place is one, however many services and paths show it', () => {
  const places = placesOf(
    [
      mount('web', '/srv/shop/data', '/srv'),
      mount('worker', '/srv/shop/data', '/srv'),
      mount('web', 'shop_uploads', '/b'),
      mount('web', 'shop_uploads', '/a'),
    ],
    origin,
  );
  assert.deepEqual(places.map(shown), ['data web:/srv 2', 'uploads web:/a 2']);
});

test('places inside one another are the outermost one', () => {
  const places = placesOf(
    [
      mount('worker', '/srv/shop/data/index', '/index'),
      mount('web', '/srv/shop/data', '/srv'),
      mount('web', '/srv/shop/database', '/database'),
      // A mount inside a mount is another place of the machine.
      mount('web', 'shop_images', '/srv/images'),
    ],
    origin,
  );
  assert.deepEqual(outermost(places).map(shown), [
    'data web:/srv 2',
    'database web:/database 1',
    'images web:/srv/images 1',
  ]);
});

test('a service that writes to a place shows it', () => {
  const places = placesOf([mount('a', 'shop_x', '/ro', true), mount('b', 'shop_x', '/rw')], origin);
  assert.deepEqual(places.map(shown), ['x b:/rw 2']);
});

test('names follow from the place alone', () => {
  const named = (source: string, of: Parameters<typeof placesOf>[1] = origin): string =>
    placesOf([mount('n8n', source, '/home/node/.n8n')], of)[0]?.name ?? '';
  assert.equal(named('shop_n8n_storage'), 'n8n_storage');
  assert.equal(named('media.of.all'), 'media-of-all');
  assert.equal(named('0f'.repeat(32)), 'n8n-n8n', 'the Engine names such a volume anew each time');
  assert.equal(named('/srv/shop/volumes/app/storage'), 'volumes-app-storage');
  assert.equal(named('/srv/shop'), 'project');
  assert.equal(named('/mnt/Photos'), 'mnt-photos');
  assert.equal(named('/srv/shop/data', { ...origin, directory: undefined }), 'srv-shop-data');
});

test('a name that is taken gets an addition', () => {
  const taken = new Set(['config']);
  assert.deepEqual(
    ['config', 'config', 'data'].map((name) => freeName(name, taken)),
    ['config-2', 'config-3', 'data'],
  );
});
