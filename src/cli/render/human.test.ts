import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { test } from 'node:test';
import { ConfigurationError } from '../../model/errors.ts';
import { humanAudience } from './human.ts';

class Screen extends Writable {
  text = '';
  readonly isTTY: boolean;
  readonly columns = 80;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** What is shown of a result, a message and an error with this name in them. */
function show(name: string, isTTY: boolean): { readonly stdout: string; readonly stderr: string } {
  const [stdout, stderr] = [new Screen(isTTY), new Screen(isTTY)];
  using audience = humanAudience({
    stdout: stdout as unknown as NodeJS.WriteStream,
    stderr: stderr as unknown as NodeJS.WriteStream,
    stdin: new PassThrough() as unknown as NodeJS.ReadStream,
    ...{ color: false, capable: true, verbose: false, monotonicMs: () => 0 },
  });
  audience.result({}, `a result of ${name}\n\tand more`);
  audience.event({ type: 'message', level: 'warn', message: `a warning of ${name}` });
  audience.event({
    type: 'finding',
    finding: { severity: 'error', subject: name, code: 'file-differs', message: 'It differs' },
  });
  audience.failure(new ConfigurationError(`An error of ${name}`, { hint: `Look at ${name}` }));
  return { stdout: stdout.text, stderr: stderr.text };
}

const hostile = 'a\u001b]0;title\u0007\u009b2J\r\u202eb';

test('a name with control characters does not steer the terminal', () => {
  const { stdout, stderr } = show(hostile, true);
  assert.doesNotMatch(stdout + stderr, /[^\P{Cc}\n\t]|\u202e/u);
  assert.equal(stdout, 'a result of a\\u001b]0;title\\u0007\\u009b2J\\u000d\\u202eb\n\tand more\n');
  assert.equal(stderr.match(/a\\u001b\]0;title/g)?.length, 4, stderr);
});

test('a result that is piped elsewhere keeps its bytes, messages are for people everywhere', () => {
  const { stdout, stderr } = show(hostile, false);
  assert.equal(stdout, `a result of ${hostile}\n\tand more\n`);
  assert.doesNotMatch(stderr, /[^\P{Cc}\n\t]/u);
});

test('a live line is drawn only where the terminal can take it away again', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const drawn = (capable: boolean, isTTY: boolean): string => {
    const stderr = new Screen(isTTY);
    using audience = humanAudience({
      stdout: new Screen(isTTY) as unknown as NodeJS.WriteStream,
      stderr: stderr as unknown as NodeJS.WriteStream,
      stdin: new PassThrough() as unknown as NodeJS.ReadStream,
      ...{ color: false, capable, verbose: false, monotonicMs: () => 0 },
    });
    audience.event({ type: 'task-started', task: 'staging redis', totalBytes: undefined });
    t.mock.timers.tick(1000);
    return stderr.text;
  };
  assert.match(drawn(true, true), /^staging redis 0 s/);
  assert.equal(drawn(false, true), '');
  assert.equal(drawn(true, false), '');
});
