import type { Kinds } from '../ports/kind.ts';
import { chromaKind } from './chroma/kind.ts';
import { configKind } from './config/kind.ts';
import { filesKind } from './files/kind.ts';
import { ollamaKind } from './ollama/kind.ts';
import { postgresKind } from './postgres/kind.ts';
import { redisKind } from './redis/kind.ts';

/** Every kind of store that tars knows, in the order in which they are shown. */
export const kinds: Kinds = [postgresKind, redisKind, chromaKind, ollamaKind, configKind, filesKind];
