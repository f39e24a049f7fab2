import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: resolveIgnoresFromGitignore() }),
  {
    // A schema and its type share one name: `export const Problem = …; export type Problem = Static<typeof Problem>`.
    files: ['schemas/**/*.ts', 'plugins/**/*.ts', 'demo/**/*.ts', 'test/**/*.ts'],
    rules: { 'no-redeclare': 'off', '@typescript-eslint/no-redeclare': 'off' },
  },
]
