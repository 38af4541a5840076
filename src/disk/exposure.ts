import { stat } from 'node:fs/promises';

/** Whether a file's mode lets every user of this machine read it. One that is not there is somebody else's finding. */
export async function readableByAll(file: string): Promise<boolean> {
  return stat(file).then(
    ({ mode }) => (mode & 0o004) !== 0,
    () => false,
  );
}
