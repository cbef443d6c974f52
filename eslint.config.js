import js from '@eslint/js'
import tseslint from 'typescript-eslint'

/**
 * Rules of the house that a linter can hold:
 *  - layers: an upper layer may import a lower one, never the other way (docs/ARCHITECTURE.md);
 *  - the hot folders allocate nothing per packet;
 *  - only control/host, by its run, command and monitor, and control/lab run other programs.
 */
const layer = (files, forbidden, message) => ({
  files,
  ignores: ['**/*.test.ts'],
  rules: {
    '@typescript-eslint/no-restricted-imports': [
      'error',
      { patterns: [{ group: forbidden, message }] },
    ],
  },
})

const noAllocation = [
  ['ObjectExpression', 'an object literal allocates'],
  ['ArrayExpression', 'an array literal allocates'],
  ['SpreadElement', 'a spread allocates'],
  ['TemplateLiteral', 'a template string allocates'],
  ['ThrowStatement', 'the path answers with a verdict, it never throws'],
  ['NewExpression', '`new` allocates'],
  ['ForOfStatement', 'an iterator allocates'],
  [
    'CallExpression[callee.property.name=/^(subarray|slice|map|filter|concat|bind)$/]',
    'this call allocates',
  ],
  [
    "CallExpression[callee.property.name='push']:not([callee.object.property.name='encap'])",
    'an array that grows allocates',
  ],
  ['Literal[bigint]', 'BigInt allocates'],
].map(([node, why]) => ({
  // Constructors, create*, describe* and module level may allocate; the path may not.
  selector: `:matches(FunctionDeclaration:not([id.name=/^(create|describe)/]), MethodDefinition:not([kind=constructor]):not([key.name=/^(create|describe)/]), VariableDeclarator[id.name!=/^(create|describe)/] > ArrowFunctionExpression) ${node}`,
  message: `Hot path: ${why}. Allocate in a constructor or a create… function.`,
}))

const onlyRun = {
  paths: ['node:child_process', 'child_process'].map((name) => ({
    name,
    message: 'Only control/host (run, command, monitor), control/lab and tests run programs.',
  })),
}
const throughHost = {
  group: ['**/host/run.js'],
  message: 'Only control/host has programs run.',
}

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', '.tap/', '.h/', 'bench/results/'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  {
    files: ['**/*.{js,mjs}'],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: {
      ...tseslint.configs.disableTypeChecked.languageOptions,
      globals: {
        process: 'readonly',
        console: 'readonly',
        URL: 'readonly',
        Buffer: 'readonly',
        performance: 'readonly',
      },
    },
  },
  {
    files: ['**/*.test.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    files: [
      'dataplane/{packet,wire,fib,encap,offload}/**/*.ts',
      'dataplane/{egress,ingress,delivery,engine}.ts',
    ],
    ignores: [
      '**/*.test.ts',
      'dataplane/wire/print.ts',
      'dataplane/fib/*-writer.ts',
      'dataplane/fib/linear.ts',
    ],
    rules: { 'no-restricted-syntax': ['error', ...noAllocation] },
  },
  layer(['dataplane/packet/**/*.ts'], ['../**'], 'packet is the lowest layer: it imports nothing.'),
  layer(['dataplane/wire/**/*.ts'], ['../*', '../!(packet)/**'], 'wire imports only packet.'),
  layer(
    ['dataplane/{offload,encap,fib}/**/*.ts', 'dataplane/icmp.ts'],
    ['../engine*', '../egress*', '../ingress*', '../io/**', '../native/**', '../index*'],
    'offload, encap, fib and icmp import only wire and packet.',
  ),
  layer(
    ['dataplane/{egress,ingress,delivery}.ts'],
    ['./engine*', './io/!(device)*', './native/**', './index*'],
    'egress, ingress and delivery are handed their devices.',
  ),
  layer(
    ['dataplane/engine.ts'],
    ['./io/!(device)*', './native/**', './index*'],
    'the engine is handed its devices; only the opening of a dataplane touches real ones.',
  ),
  layer(['dataplane/**/*.ts'], ['**/control/**'], 'the dataplane does not know the control plane.'),
  layer(
    ['control/**/*.ts'],
    ['**/dataplane/!(index)*', '**/dataplane/*/**'],
    'control imports dataplane/index.ts and nothing deeper.',
  ),
  {
    files: ['**/*.ts'],
    ignores: [
      '**/*.test.ts',
      'dataplane/netns-fixture.ts',
      'control/host/**',
      'control/lab/**',
      'bench/**',
    ],
    rules: { 'no-restricted-imports': ['error', { ...onlyRun, patterns: [throughHost] }] },
  },
  {
    files: ['control/host/**/*.ts'],
    ignores: ['**/*.test.ts', 'control/host/{run,command,monitor}.ts'],
    rules: { 'no-restricted-imports': ['error', onlyRun] },
  },
)
