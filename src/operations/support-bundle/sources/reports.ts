import { shortId } from '../../../model/snapshot.ts';
import type { OperationContext } from '../../../ports/context.ts';
import type { RunLog } from '../../../ports/run-log.ts';
import { report, type SupportSource } from '../source.ts';

/** As many as a person looks back. */
const runsMax = 60;

/** Something that tars itself reports, such as what doctor finds. */
export const reportSource = (
  name: string,
  look: (ctx: OperationContext) => Promise<unknown>,
  limitMs?: number,
): SupportSource => ({
  name,
  limitMs,
  collect: async (ctx) => ({ files: [report(`${name}.json`, `tars ${name}`, await look(ctx))] }),
});

/** The last runs, as the state directory records them. */
export const runsSource = (log: () => RunLog): SupportSource => ({
  name: 'runs',
  collect: () => {
    const runs = log()
      .runs()
      .slice(-runsMax)
      .map(({ end, ...run }) => ({
        ...run,
        end: end && { ...end, snapshot: end.snapshot && shortId(end.snapshot) },
      }));
    return Promise.resolve({ files: [report('runs.json', 'the state directory', runs)] });
  },
});
