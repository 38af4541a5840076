import type { ContainerInspector, SupportedContainer } from '../../../ports/support.ts';
import { logBytesMax, logLinesMax } from '../bounds.ts';
import { report, type SupportSource } from '../source.ts';
import { environmentLesson, fileSource } from './files.ts';

/** The states of all containers; then the end of the log of each. */
export const containersSource = (inspector: ContainerInspector, project: string): SupportSource => ({
  name: 'containers',
  async collect({ signal }) {
    const all = await inspector.containers(signal);
    const states = all.map(({ state }) => state);
    return {
      files: [report('containers.json', `docker inspect of the project ${project}, some fields`, states)],
      lessons: all.flatMap(({ environment, command }) => [
        environmentLesson(environment),
        { path: 'command.json', from: 'command.json', form: 'file', body: JSON.stringify(command) },
      ]),
      omitted: [{ what: 'environment, labels and command of containers', why: 'They may hold secrets' }],
      further: all.map(containerLogSource),
    };
  },
});

const containerLogSource = (container: SupportedContainer): SupportSource => ({
  name: `log of ${container.name}`,
  collect: async (ctx) => ({
    files: [
      {
        ...{ path: `logs/${container.name}.log`, from: `docker logs ${container.name}`, form: 'log' },
        body: await container.log(logLinesMax, logBytesMax, ctx),
      },
    ],
  }),
});

/** The Compose files that made the containers, where tars.yaml names none. */
export const labelledComposeFiles = (inspector: ContainerInspector): SupportSource => ({
  name: 'Compose files',
  collect: async ({ signal }) => ({
    further: (await inspector.composeFiles(signal)).map((path) => fileSource(path, 'configuration')),
  }),
});
