import { argumentOf } from '../../model/container-arguments.ts';
import type { ContainerSlot } from '../../ports/kind.ts';
import type { PostgresSettings } from './settings.ts';

const port = 5432;
/** An SSLRequest (PostgreSQL's "Message Formats"), which is answered by one letter. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const servers = /^(postgres|postmaster|pg_ctl|pg_ctlcluster)$/;
const clients =
  /^(psql|pgbench|pg_(dump|dumpall|restore|isready|basebackup|receivewal|recvlogical|amcheck)|(create|drop)(db|user)|(vacuum|reindex|cluster)db)$/;

export const container: ContainerSlot<PostgresSettings> = {
  recognition: {
    title: 'PostgreSQL',
    labels: ['postgres', 'postgresql'],
    images: /^(postgres(ql)?|postgis|pgvector|timescaledb(-ha)?|paradedb|pgvecto-rs|vectorchord-postgres)$/,
    port,
    isPortTelling: true,
    answers: async (address, ask) => /^[SN]$/.test(await ask.say(address, sslRequest)),
    isAnswerTelling: false,
    programRole: ({ name }) => (servers.test(name) ? 'server' : clients.test(name) ? 'client' : undefined),
    toldPort: (sketch) => argumentOf(sketch, '-p') ?? sketch.environment['PGPORT'],
    password({ environment }) {
      if (environment['POSTGRES_PASSWORD']) return Promise.resolve('known');
      const otherwise = environment['POSTGRES_HOST_AUTH_METHOD'] === 'trust' ? 'none' : 'needed';
      const file = environment['POSTGRES_PASSWORD_FILE'];
      return Promise.resolve(file === undefined ? otherwise : { file, otherwise });
    },
    credentials: ({ environment }) => ({
      user: environment['POSTGRES_USER'],
      password: environment['POSTGRES_PASSWORD'],
    }),
    expectedDirectory: ({ environment }) => environment['PGDATA'] ?? '/var/lib/postgresql/data',
    riskIfUnmounted: 'NOT CAPTURED',
  },
  access: {
    through: 'server',
    givenAddress: ({ host }) => host,
    givenPort: (settings) => settings.port,
    programsPort: (settings) => (settings.host === undefined ? (settings.port ?? port) : undefined),
  },
};
