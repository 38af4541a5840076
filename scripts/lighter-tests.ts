/**
 * Loaded before each test file. Node's test runner watches every asynchronous resource of a process, promises included,
 * to tell which test an uncaught error belongs to (lib/internal/test_runner/harness.js, createHook). The promises took up
 * to half of a file's processor time. Without them an uncaught error fails its file, and may name no test.
 */
import asyncHooks, { type AsyncHook, type HookCallbacks } from 'node:async_hooks';

const { createHook } = asyncHooks;

asyncHooks.createHook = (callbacks: HookCallbacks): AsyncHook => {
  const isRunner = new Error('caller').stack?.includes('node:internal/test_runner') === true;
  return createHook(isRunner ? { ...callbacks, trackPromises: false } : callbacks);
};
