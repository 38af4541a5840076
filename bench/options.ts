import { parseArgs } from 'node:util';

export interface BenchOptions {
  readonly sizeBytes: number;
  readonly rounds: number;
  readonly json: boolean;
}

export const usage = `Usage: npm run bench -- [--size 1g] [--rounds 1] [--json]

  --size    what the stores hold together, such as 500m, 1g or 4g (default 1g)
  --rounds  how often everything is repeated; medians are shown (default 1)
  --json    the figures of every round and their medians, for programs
  --help    this`;

/** @throws Error saying what is wrong. Undefined when only help is wanted */
export function parseOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '1g' },
      rounds: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`"${values.rounds}" is no number of rounds`);
  return { sizeBytes: parseSize(values.size), rounds, json: values.json };
}

function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([mg])b?$/i.exec(text);
  if (!match) throw new Error(`"${text}" is no size such as 500m or 4g`);
  return Number(match[1]) * (match[2]?.toLowerCase() === 'g' ? 1e9 : 1e6);
}
