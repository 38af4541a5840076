import type { MachineSlot } from '../../ports/kind.ts';

export const machine: MachineSlot = {
  propose: async (_env, answers) => ({ isFound: await answers({ port: 5432 }), lines }),
};

const lines = [
  'postgres:',
  '  host: 127.0.0.1',
  '  port: 5432',
  '  user: postgres',
  '  password_file: /etc/tars/postgres-password # or password: ${POSTGRES_PASSWORD}',
  '  # databases: [tars_home]              # default: all',
  '  # service: postgres                   # the service below that runs it',
];
