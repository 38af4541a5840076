/** Dimensions of the demo's embeddings. */
export const embeddingDimensions = 256;

/** FNV-1a, 32 bits (Fowler, Noll, Vo; offset basis and prime of its definition). */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/**
 * A deterministic embedding by feature hashing (Weinberger et al., 2009): words and word pairs hash to a
 * dimension and a sign; the sum is L2-normalised and rounded to float32.
 */
export function embed(text: string): number[] {
  const vector = new Float32Array(embeddingDimensions);
  const words = text.toLowerCase().match(/[a-z]{3,}/g) ?? [];
  const add = (feature: string, weight: number): void => {
    const hash = fnv1a(feature);
    const dimension = hash % embeddingDimensions;
    vector[dimension] = (vector[dimension] ?? 0) + (hash & 0x80000000 ? -weight : weight);
  };
  words.forEach((word, position) => {
    add(word, Math.min(3, word.length / 4));
    const next = words[position + 1];
    if (next !== undefined) add(`${word} ${next}`, 0.5);
  });
  const norm = Math.hypot(...vector) || 1;
  return Array.from(vector, (value) => Math.fround(value / norm));
}
