import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding } from '../../model/finding.ts';
import { acceptsMissing, foreignHost, requireConsent } from './consent.ts';

const summary = { id: '4f3a9c21'.repeat(8), hostname: 'attic' };
const foreign = foreignHost('cellar', summary, undefined);

/** What a restore of the data of a host does when the operator answers `answer`. */
async function consent(saidYes: boolean, answer: boolean | undefined, of: typeof foreign): Promise<string[]> {
  const told: string[] = [];
  const log = { debug: () => undefined, info: () => undefined, warn: (text: string) => void told.push(text) };
  const confirm = (question: string): Promise<boolean | undefined> => {
    told.push(question);
    return Promise.resolve(answer);
  };
  const plan = { warnings: ['a warning'], foreign: of };
  const { signal } = new AbortController();
  await requireConsent(plan, { saidYes, confirm }, () => void told.push('the plan'), { log, signal });
  return told;
}

test('a host is foreign unless it is this one or was named', () => {
  assert.deepEqual(foreign, { snapshot: '4f3a9c21', host: 'attic', own: 'cellar' });
  assert.equal(foreignHost('attic', summary, undefined), undefined);
  assert.equal(foreignHost('cellar', summary, 'attic'), undefined);
});

test('data of another host is restored by nobody who has not seen whose it is', async () => {
  await assert.rejects(consent(true, true, foreign), { code: 'restore-refused' });
  await assert.rejects(consent(false, undefined, foreign), { code: 'restore-refused' });
  await assert.rejects(consent(false, false, foreign), { code: 'restore-refused' });
  const [plan, question = ''] = await consent(false, true, foreign);
  assert.equal(plan, 'the plan', 'it is shown before the question');
  assert.match(question, /attic.*cellar/);
});

test('a yes said beforehand asks nothing, and without one somebody must be there', async () => {
  assert.deepEqual(await consent(true, undefined, undefined), ['a warning']);
  await assert.rejects(consent(false, undefined, undefined), {
    code: 'configuration',
  });
});

test('who said yes to all accepts no loss by that', async () => {
  const missing: readonly Finding[] = [
    { severity: 'error', subject: 'db', code: 'x', message: 'It is gone' },
  ];
  const accepts = async (saidYes: boolean, accepted: boolean, answer: boolean | undefined) => {
    const shown: Finding[] = [];
    const operator = { saidYes, confirm: () => Promise.resolve(answer) };
    const given = { accepted, show: (finding: Finding) => void shown.push(finding) };
    const is = await acceptsMissing(missing, operator, given, new AbortController().signal);
    return [is, shown.length];
  };
  assert.deepEqual(await accepts(true, false, true), [false, 0]);
  assert.deepEqual(await accepts(true, true, undefined), [true, 1]);
  assert.deepEqual(await accepts(false, false, true), [true, 1]);
  assert.deepEqual(await accepts(false, false, undefined), [false, 1]);
  assert.deepEqual(await accepts(false, true, undefined), [true, 1]);
});
