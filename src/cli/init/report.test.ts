import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Settings } from '../../settings/load.ts';
import type { FoundStore, StackInventory } from '../../ports/inventory.ts';
import { composeTemplate } from '../../settings/compose-template.ts';
import { noCare } from '../../settings/template-sections.ts';
import { renderFound, renderInventory } from './report.ts';

test('a tars.yaml that was there already was not filled in', () => {
  const settings = { components: { db: {}, cache: {} } } as unknown as Settings;
  assert.deepEqual(renderFound(settings, false), ['It names: db, cache.']);
  assert.deepEqual(renderFound(settings, true), ['Found and filled in: db, cache.']);
  assert.deepEqual(renderFound({ ...settings, components: {} }, false), ['It names no component.']);
});

test('a password that is missing, or may be, is named in the report and in tars.yaml', () => {
  const shown = (password: FoundStore['password']): readonly [string, string] => {
    const store: FoundStore = {
      ...{ service: 'cache', kind: 'redis', how: 'by its image redis:7', passwordFile: undefined, password },
      ...{ port: undefined, tls: false, warning: undefined, riskIfUnmounted: 'AT RISK', proposal: [] },
    };
    const inventory: StackInventory = {
      ...{
        project: 'p',
        host: undefined,
        seenThrough: 'files',
        composeFiles: ['/p/compose.yaml'],
        envFiles: [],
      },
      ...{ stores: [store], writers: [], files: [], places: [], leftOut: [], unusedVolumes: [], notes: [] },
    };
    const values = { stack: 's', host: undefined, repositoryPath: '/r', passwordFile: '/k', care: noCare };
    const lines = renderInventory('/p/tars.yaml', inventory);
    const written = composeTemplate(inventory, { ...values, settingsPath: '/p/tars.yaml' });
    const comment = written.split('\n').find((line) => line.includes('password_file: FILE'));
    return [lines.filter((line) => line.includes('password')).join('\n'), comment?.trim() ?? ''];
  };
  assert.deepEqual(shown('none'), ['', '']);
  assert.deepEqual(shown('needed'), [
    'Warning: the password of cache is unknown: set it in /p/tars.yaml',
    '# password_file: FILE # a file with its password, which the container does not show',
  ]);
  assert.deepEqual(shown('unknown'), [
    'Note: cache did not answer, so it is unknown whether it asks for a password: if it does, set it in /p/tars.yaml',
    '# password_file: FILE # a file with its password, if it asks for one: it did not answer',
  ]);
});
