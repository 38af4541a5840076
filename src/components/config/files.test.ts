import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeText } from './files.ts';
import { redactFile } from './redact/index.ts';

const settings = '[db]\r\npassword = kept-in-utf16\r\nhost = db\r\n';
const bigEndian = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();
const encodings: readonly (readonly [name: string, bytes: Buffer])[] = [
  ['UTF-8', Buffer.from(`${settings}ß`)],
  ['Latin-1', Buffer.from(`${settings}ß`, 'latin1')],
  ['UTF-16 with a mark', Buffer.from(`\uFEFF${settings}`, 'utf16le')],
  ['UTF-16 without a mark', Buffer.from(settings, 'utf16le')],
  ['UTF-16, high byte first, with a mark', bigEndian(`\uFEFF${settings}`)],
  ['UTF-16, high byte first', bigEndian(settings)],
];

test('a file is read in its own encoding, redacted, and written in it again', () => {
  for (const [name, bytes] of encodings) {
    const { text, encode } = decodeText(bytes);
    assert.match(text, /password = kept-in-utf16/, name);
    assert.deepEqual(Buffer.from(encode(text)), bytes, name);
    const shown = encode(redactFile('app.ini', text, []).text);
    assert.match(decodeText(shown).text, /password = \[redacted\]\r\nhost = db\r\n/, name);
  }
});
