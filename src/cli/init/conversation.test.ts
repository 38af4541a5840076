import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, test } from 'node:test';
import { parseSettings } from '../../composition/settings.ts';
import { contextFor } from '../render/audience.ts';
import { jsonAudience } from '../render/json.ts';
import type { Questions } from '../render/questions.ts';
import type { Session } from '../session/session.ts';
import { askForChoices, askToCreate } from './conversation.ts';

let root: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'tars-conversation-'));
  await mkdir(join(root, 'there'));
  for (const file of ['there/config', 'key']) await writeFile(join(root, file), 'text\n', { mode: 0o600 });
});
after(() => rm(root, { recursive: true, force: true }));

/** Takes every proposal, and notes the questions. */
class Accepting implements Questions {
  readonly asked: string[] = [];

  choose<T>(question: string, options: readonly { readonly value: T }[]): Promise<T> {
    this.asked.push(question);
    // Local services, whatever projects this machine has.
    return Promise.resolve(options.at(-1)?.value as T);
  }

  text(question: string, { preset }: { readonly preset: string }): Promise<string> {
    this.asked.push(question);
    return Promise.resolve(preset);
  }

  confirm(question: string): Promise<boolean> {
    this.asked.push(question.replaceAll(root, ''));
    return Promise.resolve(true);
  }
}

function session(): Session {
  const audience = jsonAudience({ stdout: new PassThrough(), stderr: new PassThrough() });
  const env = { DOCKER_HOST: 'unix:///nowhere/docker.sock', HOME: root };
  const never = (): never => assert.fail('not part of the conversation');
  return {
    ...{ env, audience, configPath: undefined, settings: never, noteRetention: never },
    ctx: contextFor(audience, new AbortController().signal),
  };
}

test('the last question says what is created and what is there already', async () => {
  const last = async (repository: string, keyFile: string): Promise<string | undefined> => {
    const questions = new Accepting();
    const flags = { repository: join(root, repository), keyFile: join(root, keyFile) };
    await askForChoices(flags, join(root, 'tars.yaml'), session(), questions);
    return questions.asked.at(-1);
  };
  assert.equal(await last('there', 'key'), 'Create /tars.yaml for the existing repository /there?');
  assert.equal(await last('new', 'key'), 'Create /tars.yaml and the repository /new?');
  assert.equal(await last('new', 'new-key'), 'Create /tars.yaml, the repository /new and its key /new-key?');
});

test('beside a tars.yaml it asks only for what is missing', async () => {
  const asked = async (repository: string, keyFile: string): Promise<readonly string[]> => {
    const text = `version: 1\nstack: s\nrepository: { path: ${repository}, password_file: ${keyFile} }\n`;
    const questions = new Accepting();
    await askToCreate(parseSettings(text, join(root, 'tars.yaml'), {}), session(), questions);
    return questions.asked;
  };
  assert.deepEqual(await asked('there', 'key'), []);
  assert.deepEqual(await asked('new', 'new-key'), ['Create the repository /new and its key /new-key?']);
  assert.deepEqual(await asked('new', 'key'), [
    'The key exists, but there is no repository at /new. Is its disk mounted? Create a new one?',
  ]);
});
