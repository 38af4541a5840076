import type { MachineSlot } from '../../ports/kind.ts';

export const machine: MachineSlot = {
  propose: async (_env, answers) => ({ isFound: await answers({ port: 8000 }), lines }),
};

const lines = [
  'chroma:',
  '  url: http://127.0.0.1:8000',
  '  # path: /var/lib/chroma               # the directory with chroma.sqlite3: safest and fastest',
  '  # service: chroma',
];
