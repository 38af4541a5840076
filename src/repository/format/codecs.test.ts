import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { CorruptionError, TarsError } from '../../model/errors.ts';
import { decodeConfig, encodeConfig, newConfig } from './config-file.ts';
import { SealingKey } from './crypto.ts';
import { encodeGoJson, parseJson64 } from './go-json.ts';
import { decodeLossless, encodeLossless } from '../../model/byte-text.ts';
import { goQuote, goUnquote } from './go-quote.ts';
import { formatGoTime, parseGoOffset, parseGoTime } from './go-time.ts';
import { decodeIndex, encodeIndex } from './index-file.ts';
import {
  encodePackTrailer,
  locatePackHeader,
  packSizeBytes,
  parsePackHeader,
  type PackedBlob,
} from './pack.ts';
import { isIrreducible, randomIrreducible } from './polynomial.ts';
import { decodeSnapshot, encodeSnapshot } from './snapshot-file.ts';
import { decodeTree, encodeTree, type TreeNode } from './tree.ts';
import { decodeUnpacked, encodeUnpacked } from './unpacked.ts';

const seed = 20_260_701;

test('times keep nanoseconds, trim zeros and accept any zone', () => {
  assert.equal(formatGoTime(0n), '1970-01-01T00:00:00Z');
  assert.equal(formatGoTime(1_417_885_043_345_135_380n), '2014-12-06T16:57:23.34513538Z');
  assert.equal(formatGoTime(-1n), '1969-12-31T23:59:59.999999999Z');
  assert.equal(formatGoTime(-(10n ** 25n)).slice(0, 4), '0000');
  assert.equal(formatGoTime(10n ** 25n).slice(0, 4), '9999');
  assert.equal(parseGoTime('2014-12-06T17:57:23.34513538+01:00'), 1_417_885_043_345_135_380n);
  assert.equal(parseGoTime('1969-12-31T23:59:59.999999999Z'), -1n);
  assert.throws(() => parseGoTime('yesterday'), CorruptionError);
  assert.equal(formatGoTime(1_417_885_043_345_135_380n, 60), '2014-12-06T17:57:23.34513538+01:00');
  assert.equal(formatGoTime(0n, -210), '1969-12-31T20:30:00-03:30');
  for (const [text, minutes] of [
    ['2014-12-06T17:57:23Z', 0],
    ['2014-12-06T17:57:23+05:45', 345],
    ['2014-12-06T17:57:23.5-03:30', -210],
  ] as const) {
    assert.equal(parseGoOffset(text), minutes);
  }
  const times = fc.bigInt({ min: -(6n * 10n ** 19n), max: 2n * 10n ** 20n });
  fc.assert(
    fc.property(times, (time) => parseGoTime(formatGoTime(time)) === time),
    { seed },
  );
});

test('JSON is escaped as Go does', () => {
  assert.equal(
    encodeGoJson({ a: '<b>&\u2028\u2029é\u007f\n"', n: 2n ** 64n - 1n, gone: undefined, list: [null, true] }),
    '{"a":"\\u003cb\\u003e\\u0026\\u2028\\u2029é\u007f\\n\\"","n":18446744073709551615,"list":[null,true]}',
  );
});

test('integers of 64 bits survive parsing', () => {
  assert.deepEqual(parseJson64('{"a":18446744073709551615,"b":9007199254740991,"c":[1.5]}'), {
    a: 2n ** 64n - 1n,
    b: 9_007_199_254_740_991,
    c: [1.5],
  });
});

test('names are quoted as strconv.Quote does', () => {
  const pairs: [string, string][] = [
    ['plain name', 'plain name'],
    ['a"b\\c', 'a\\"b\\\\c'],
    ['tab\tnewline\nbell\u0007nul\0del\u007f', 'tab\\tnewline\\nbell\\anul\\x00del\\x7f'],
    ['Grüße 日本 🎉', 'Grüße 日本 🎉'],
    ['zero\u200bwidth\u00a0', 'zero\\u200bwidth\\u00a0'],
    ['\u{e0001}', '\\U000e0001'],
    ['bad\udcffbyte', 'bad\\xffbyte'],
  ];
  for (const [name, quoted] of pairs) {
    assert.equal(goQuote(name), quoted);
    assert.equal(goUnquote(quoted), name);
  }
  assert.equal(goUnquote('\\xc3\\xa9\\303\\251'), 'éé');
  assert.throws(() => goUnquote('\\q'), CorruptionError);
  assert.throws(() => goUnquote('\\'), CorruptionError);
});

test('any bytes survive as a name', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
      const name = decodeLossless(Buffer.from(bytes));
      assert.deepEqual(encodeLossless(name), Buffer.from(bytes));
      assert.equal(goUnquote(goQuote(name)), name);
    }),
    { seed, numRuns: 2000 },
  );
});

test('polynomials: known, reducible and random ones', () => {
  // restic's chunker test polynomial, and x^53 + x (divisible by x).
  assert.ok(isIrreducible(0x3da3358b4dc173n));
  assert.ok(!isIrreducible(0x3da3358b4dc172n));
  assert.ok(!isIrreducible((1n << 53n) | 2n));
  assert.ok(!isIrreducible(0b101n), '(x+1)^2');
  assert.ok(isIrreducible(0b111n), 'x^2+x+1');
  assert.ok(!isIrreducible(0n));
  assert.equal(randomIrreducible().toString(2).length, 54);
});

test('the configuration', () => {
  const config = newConfig();
  assert.deepEqual(decodeConfig(encodeConfig(config)), config);
  assert.throws(
    () => decodeConfig(encodeConfig({ ...config, version: 3 })),
    (error) => error instanceof TarsError && error.code === 'unsupported-version',
  );
  assert.throws(() => decodeConfig(encodeConfig({ ...config, chunkerPolynomial: 6n })), CorruptionError);
  assert.throws(() => decodeConfig(Buffer.from('{}')), CorruptionError);
});

test('unpacked files, compressed and plain', () => {
  assert.equal(encodeUnpacked('{"a":1}', 2)[0], 2);
  assert.equal(decodeUnpacked(encodeUnpacked('{"a":1}', 2), 'it'), '{"a":1}');
  assert.equal(decodeUnpacked(encodeUnpacked('{"a":1}', 1), 'it'), '{"a":1}');
  assert.equal(decodeUnpacked(Buffer.from('[1]'), 'it'), '[1]');
  assert.throws(() => decodeUnpacked(Buffer.of(), 'it'), CorruptionError);
  assert.throws(() => decodeUnpacked(Buffer.of(2, 1, 2, 3), 'it'), CorruptionError);
  assert.throws(
    () => decodeUnpacked(Buffer.of(3), 'it'),
    (error) => error instanceof TarsError && error.code === 'unsupported-version',
  );
});

test('an unpacked file that would inflate without bound is refused', () => {
  const bomb = zstdCompressSync(Buffer.alloc(300 << 20, ' '));
  assert.ok(bomb.length < 100_000);
  assert.throws(() => decodeUnpacked(Buffer.concat([Buffer.of(2), bomb]), 'it'), CorruptionError);
});

const blobs: PackedBlob[] = [
  { id: 'aa'.repeat(32), type: 'data', offsetBytes: 0, lengthBytes: 40, uncompressedBytes: undefined },
  { id: 'bb'.repeat(32), type: 'tree', offsetBytes: 40, lengthBytes: 50, uncompressedBytes: 999 },
  { id: 'cc'.repeat(32), type: 'data', offsetBytes: 90, lengthBytes: 60, uncompressedBytes: 4_000_000_000 },
  { id: 'dd'.repeat(32), type: 'tree', offsetBytes: 150, lengthBytes: 32, uncompressedBytes: undefined },
];

test('a pack header', () => {
  const key = SealingKey.generate();
  const trailer = encodePackTrailer(blobs, key);
  const size = 182 + trailer.length;
  assert.equal(packSizeBytes(blobs), size);
  const where = locatePackHeader(trailer.subarray(-4), size, 'pack');
  assert.deepEqual(where, { offsetBytes: 182, lengthBytes: trailer.length - 4 });
  const header = key.open(trailer.subarray(0, -4), 'header');
  assert.deepEqual(parsePackHeader(header, 'pack'), blobs);
  assert.throws(() => parsePackHeader(header.subarray(0, -1), 'pack'), CorruptionError);
  assert.throws(() => parsePackHeader(Buffer.of(4, ...header.subarray(1)), 'pack'), CorruptionError);
  assert.throws(() => locatePackHeader(Buffer.of(255, 255, 255, 255), size, 'pack'), CorruptionError);
});

test('an index, also in the old form and with null lists', () => {
  const packs = [{ id: 'ee'.repeat(32), blobs }];
  assert.deepEqual(decodeIndex(encodeIndex(packs), 'i'), packs);
  assert.deepEqual(decodeIndex('{"packs":null}', 'i'), []);
  assert.deepEqual(decodeIndex(`[{"id":"${'ee'.repeat(32)}","blobs":null}]`, 'i'), [
    { id: 'ee'.repeat(32), blobs: [] },
  ]);
  assert.throws(() => decodeIndex('{"packs":[{"id":"x","blobs":[]}]}', 'i'), CorruptionError);
});

test('a snapshot leaves empty members out', () => {
  const snapshot = {
    timeNs: 1_700_000_000_000_000_000n,
    tree: 'ab'.repeat(32),
    paths: ['/tars/home'],
    hostname: 'box',
    username: 'root',
    uid: 0,
    gid: 0,
    tags: ['tars'],
    programVersion: 'tars 0.1.0',
  };
  const json = encodeSnapshot(snapshot);
  assert.equal(
    json,
    `{"time":"2023-11-14T22:13:20Z","tree":"${snapshot.tree}","paths":["/tars/home"],"hostname":"box","username":"root","tags":["tars"],"program_version":"tars 0.1.0"}`,
  );
  assert.deepEqual(decodeSnapshot(json, 's'), snapshot);
  const elsewhere = { ...snapshot, utcOffsetMinutes: -210 };
  assert.ok(encodeSnapshot(elsewhere).startsWith('{"time":"2023-11-14T18:43:20-03:30",'));
  assert.deepEqual(decodeSnapshot(encodeSnapshot(elsewhere), 's'), elsewhere);
  assert.throws(() => decodeSnapshot('{"time":"2023-11-14T22:13:20Z"}', 's'), CorruptionError);
  const sized = { ...snapshot, summary: { addedBytes: 5, processedBytes: 7 } };
  assert.ok(
    encodeSnapshot(sized).endsWith(
      ',"program_version":"tars 0.1.0","summary":{"data_added_packed":5,"total_bytes_processed":7}}',
    ),
  );
  assert.deepEqual(decodeSnapshot(encodeSnapshot(sized), 's'), sized);
  const odd = encodeSnapshot(sized).replace('packed":5', 'packed":"5"');
  assert.deepEqual(decodeSnapshot(odd, 's'), snapshot);
});

test('a tree as restic writes it', () => {
  const common = { mtimeNs: 1n, atimeNs: 2n, ctimeNs: 3n, uid: 0, gid: 5 };
  const nodes: TreeNode[] = [
    { ...common, name: 'b', type: 'file', mode: 0o4644, content: Buffer.alloc(0), inode: 2n ** 64n - 1n },
    { ...common, name: 'B', type: 'dir', mode: 0o755, subtree: 'ab'.repeat(32), user: 'root' },
    { ...common, name: 'a<"', type: 'symlink', mode: 0o777, linkTarget: 'x\udcff', links: 1 },
    {
      ...common,
      name: '\u{10000}',
      type: 'file',
      mode: 0o600,
      content: Buffer.alloc(64, 0xcd),
      sizeBytes: 9,
    },
    { ...common, name: '\uffee', type: 'fifo', mode: 0o600 },
  ];
  const times =
    '"mtime":"1970-01-01T00:00:00.000000001Z","atime":"1970-01-01T00:00:00.000000002Z","ctime":"1970-01-01T00:00:00.000000003Z","uid":0,"gid":5';
  const encoded = encodeTree(nodes);
  assert.equal(
    encoded.toString(),
    '{"nodes":[' +
      [
        `{"name":"B","type":"dir","mode":2147484141,${times},"user":"root","content":null,"subtree":"${'ab'.repeat(32)}"}`,
        `{"name":"a\\u003c\\\\\\"","type":"symlink","mode":134218239,${times},"links":1,"linktarget":"x\\ufffd","linktarget_raw":"eP8=","content":null}`,
        `{"name":"b","type":"file","mode":8389028,${times},"inode":18446744073709551615,"content":[]}`,
        `{"name":"\uffee","type":"fifo","mode":33554816,${times},"content":null}`,
        `{"name":"\u{10000}","type":"file","mode":384,${times},"size":9,"content":["${'cd'.repeat(32)}","${'cd'.repeat(32)}"]}`,
      ].join(',') +
      ']}\n',
  );
  const order = ['B', 'a<"', 'b', '\uffee', '\u{10000}'];
  assert.deepEqual(
    decodeTree(encoded, 't'),
    order.map((name) => nodes.find((node) => node.name === name)),
  );
  assert.throws(() => decodeTree(Buffer.from('{"nodes":[{}]}'), 't'), CorruptionError);
});
