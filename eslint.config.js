import { existsSync, readdirSync } from 'node:fs';
import tseslint from 'typescript-eslint';

/**
 * Dependencies point inward: cli -> operations -> ports, model, disk. Adapters -> ports, model, disk.
 * Adapters never import one another; only composition constructs them.
 */
const rooms = {
  model: [],
  ports: ['model'],
  disk: ['model'],
  repository: ['model', 'ports', 'disk'],
  storage: ['model', 'ports', 'disk'],
  archive: ['model', 'ports', 'disk'],
  components: ['model', 'ports', 'disk'],
  runtimes: ['model', 'ports', 'disk'],
  operations: ['model', 'ports', 'disk'],
  settings: ['model', 'ports', 'disk'],
  demo: ['model', 'ports', 'operations', 'settings', 'composition', 'disk'],
  cli: ['model', 'ports', 'operations', 'settings', 'composition', 'demo', 'disk'],
};
/** Every kind of store; the other folders of the room are what kinds share. */
const componentFolders = readdirSync(new URL('src/components', import.meta.url)).filter((folder) =>
  existsSync(new URL(`src/components/${folder}/kind.ts`, import.meta.url)),
);

const forbid = (files, targets, message) => ({
  files,
  rules: {
    'no-restricted-imports': [
      'error',
      { patterns: [{ regex: `^(\\.{1,2}/)+(${targets.join('|')})/`, message }] },
    ],
  },
});

const directionRules = Object.entries(rooms).flatMap(([room, allowed]) => {
  const targets = [...Object.keys(rooms), 'composition'].filter(
    (other) => other !== room && !allowed.includes(other),
  );
  return [
    forbid([`src/${room}/**/*.ts`], targets, `${room} may import only ${allowed.join(', ') || 'itself'}.`),
  ];
});

// A component may not reach into its siblings, on top of the room rule.
const siblingRules = componentFolders.map((folder) => {
  const outside = [...Object.keys(rooms), 'composition'].filter(
    (r) => !['components', ...rooms.components].includes(r),
  );
  const siblings = componentFolders.filter((f) => f !== folder);
  return forbid(
    [`src/components/${folder}/**/*.ts`],
    [...outside.filter((r) => r !== folder), ...siblings],
    'Component adapters never import one another.',
  );
});

/** One home per primitive: outside its room the hand-written form is refused, and the message names the home. */
const primitives = [
  {
    room: 'disk',
    message: 'Use isThere, isVisible, isMissing or whenMissing of disk/is-there.ts.',
    selectors: [
      "CallExpression[callee.name='access'][arguments.length=1]",
      "LogicalExpression[left.arguments.1.value='ENOENT'][right.arguments.1.value='ENOTDIR']",
    ],
  },
  {
    room: 'disk',
    message: 'Use freeBytes, spaceAt or nearestExisting of disk/space.ts.',
    selectors: ["ImportSpecifier[imported.name='statfs']"],
  },
  {
    room: 'disk',
    message:
      'Use createDurably, replaceDurably or publishDurably of disk/durable-file.ts, or syncWhereSupported of disk/sync.ts.',
    selectors: [
      'ImportSpecifier[imported.name=/^(f(data)?sync(Sync)?|renameSync)$/]',
      "ImportDeclaration[source.value='node:fs/promises'] > ImportSpecifier[imported.name='rename']",
      'CallExpression[callee.property.name=/^(data)?sync$/] > MemberExpression[object.name=/^(file|handle)$/]',
    ],
  },
  {
    room: 'disk',
    message:
      'Use startProgram or signalChild of disk/start-program.ts: to signal what could not be started is deadly.',
    selectors: [
      "ImportDeclaration[source.value='execa'] > ImportSpecifier[imported.name='execa']",
      "CallExpression[callee.property.name='kill'] > MemberExpression[object.name!='process']",
    ],
  },
  {
    room: 'model',
    message: 'Use shellWord or withinShellQuotes of model/shell-word.ts.',
    selectors: ["Literal[value=\"'\\\\''\"]", "TemplateElement[value.cooked=\"'\\\\''\"]"],
  },
  {
    room: 'model',
    message: 'Use throwIfAborted or abortError of model/abort.ts.',
    selectors: [
      "CallExpression[callee.property.name='throwIfAborted']",
      "IfStatement[test.property.name='aborted'] NewExpression[callee.name='InterruptedError'][arguments.length=0]",
      "IfStatement[test.property.name='aborted'] NewExpression[callee.name='InterruptedError'][arguments.0.value='Interrupted']",
    ],
  },
];
const withoutPrimitivesOf = (room) =>
  primitives
    .filter((primitive) => primitive.room !== room)
    .flatMap(({ selectors, message }) => selectors.map((selector) => ({ selector, message })));
const primitiveRules = [undefined, ...new Set(primitives.map(({ room }) => room))].map((room) => ({
  files: [room === undefined ? 'src/**/*.ts' : `src/${room}/**/*.ts`],
  ignores: ['src/**/*.test.ts', 'src/demo/**/*.ts'],
  rules: { 'no-restricted-syntax': ['error', ...withoutPrimitivesOf(room)] },
}));

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { ignoreRestSiblings: true, argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      'no-console': 'error',
    },
  },
  // Only the edge prints, and only the clock adapter knows the time.
  {
    files: ['src/**/*.ts'],
    ignores: ['src/**/*.test.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'Date', property: 'now', message: 'Take the time from OperationContext.clock.' },
        { object: 'Math', property: 'random', message: 'Use node:crypto.' },
      ],
      // The tests run on a newer Node than the oldest that package.json promises.
      'no-restricted-globals': [
        'error',
        ...['AsyncDisposableStack', 'DisposableStack', 'SuppressedError'].map((name) => ({
          name,
          message: 'Node 22 has none; see model/cleanup-stack.ts.',
        })),
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'src/**/*.test.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            {
              from: 'package',
              package: 'node:test',
              name: ['test', 'it', 'describe', 'suite', 'before', 'after'],
            },
          ],
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  { files: ['bench/**/*.ts', 'scripts/**/*.ts'], rules: { 'no-console': 'off' } },
  ...directionRules,
  ...siblingRules,
  ...primitiveRules,
);
