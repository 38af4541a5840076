import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { keyCheck, renderKitHtml, renderKitText, type RecoveryKit } from './recovery-kit.ts';
import { shellWord } from './shell-word.ts';

const hostile = `it's "a" \\ $HOME \`id\` & <b>`;
const long = Array.from({ length: 30 }, (_, n) => `/a/path/number-${n}/with 'quotes' "and" \\blanks`);

const kit: RecoveryKit = {
  stack: 'home',
  hostname: 'box',
  toolVersion: '1.0',
  exportedAt: new Date('2026-11-24T08:00:00Z'),
  repository: { location: '/mnt/backup', id: 'ab'.repeat(32) },
  key: hostile,
  snapshot: { id: 'cd'.repeat(32), time: new Date('2026-11-23T03:00:00Z'), partial: false },
  remarks: [],
  steps: [
    {
      title: 'Print',
      text: ['Some words '.repeat(20).trim()],
      commands: [`printf '%s\\n' ${long.map(shellWord).join(' ')}`, `printf %s ${shellWord(hostile)}`],
    },
  ],
};

test('commands mean the same after they were broken into lines', () => {
  const text = renderKitText(kit);
  const script = [...text.matchAll(/^ {4}(.*\n)/gm)].map(([, line = '']) => line).join('');
  const said = execFileSync('sh', ['-eu', '-c', script], { encoding: 'utf8' });
  assert.equal(said, `${long.join('\n')}\n${hostile}`);
  assert.deepEqual(
    text.split('\n').filter((line) => line.length > 80),
    [],
  );
});

test('the check is what sha256sum prints first', () => {
  const printed = execFileSync('sh', ['-c', 'sha256sum | cut -c1-8'], { input: hostile, encoding: 'utf8' });
  assert.equal(keyCheck(hostile), printed.trim());
});

test('as HTML it is one file that shows the same', () => {
  const html = renderKitHtml(kit);
  assert.ok(html.includes(`<code>it's "a" \\ $HOME \`id\` &amp; &lt;b&gt;</code>`));
  assert.ok(!html.includes('<b>'));
  assert.doesNotMatch(html, /(?:src|href)=|@import|url\(/);
  const [, commands = ''] = /<pre>([^]*?)<\/pre>/.exec(html) ?? [];
  const script = commands.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
  assert.equal(
    execFileSync('sh', ['-eu', '-c', script], { encoding: 'utf8' }),
    `${long.join('\n')}\n${hostile}`,
  );
});
