let holders = 0;

const ignoreHangup = (): void => undefined;

/**
 * Survives SIGHUP until disposed. `restic unlock` asks lock holders whether they live by sending it, and a process
 * without a handler dies of the question. Several holders in one process share one handler.
 */
export function surviveHangup(): Disposable {
  if (holders === 0) process.on('SIGHUP', ignoreHangup);
  holders += 1;
  let held = true;
  return {
    [Symbol.dispose]() {
      if (!held) return;
      held = false;
      holders -= 1;
      if (holders === 0) process.off('SIGHUP', ignoreHangup);
    },
  };
}
