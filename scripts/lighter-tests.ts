/**
 * Loaded before each test file. Node's test runner watches every asynchronous resource of a process, promises included,
 * to tell which test an uncaught error belongs to (lib/internal/test_runner/harness.js, createHook). That took up to half
 * of a file's processor time. Without it an uncaught error fails its file, and names no test.
 */
import asyncHooks, { type AsyncHook, type HookCallbacks } from 'node:async_hooks';

const { createHook } = asyncHooks;
const idle: AsyncHook = { enable: () => idle, disable: () => idle };

asyncHooks.createHook = (callbacks: HookCallbacks): AsyncHook =>
  new Error('caller').stack?.includes('node:internal/test_runner') === true ? idle : createHook(callbacks);
