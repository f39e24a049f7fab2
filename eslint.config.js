import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

/** Calls of the `Sql` port, however it is held: `sql.query(…)`, `sql['script'](…)`, `const { query } = sql`. */
const STATEMENTS = ['callee.property.name', 'callee.property.value', 'callee.name'].map(name => `CallExpression[${name}=/^(?:query|script)$/]`)

/** A statement is written where it is run, as a constant, with `$1`, `$2` … for its values (CWE-89). */
const sqlIsConstant = [
  ...STATEMENTS.map(call => ({
    selector: `${call} > .arguments:first-child:not(Literal, TemplateLiteral[expressions.length=0])`,
    message: 'The text of a statement is a constant, written here; its values stand beside it as $1, $2 …',
  })),
  {
    selector: 'CallExpression[callee.property.name=/^(?:call|apply|bind)$/][callee.object.property.name=/^(?:query|script)$/]',
    message: 'Statements are run by calling query or script themselves, so that their text is seen.',
  },
  {
    selector: 'CallExpression[callee.property.name=/^(?:raw|lit)$/]',
    message: 'Text that goes into a statement as it is: bind it as a value.',
  },
  {
    selector: 'ImportDeclaration[source.value="kysely"] > ImportSpecifier[imported.name=/^(?:sql|CompiledQuery|RawBuilder)$/]',
    message: "kysely's raw SQL is not used: its builder binds every value.",
  },
]

export default [
  ...neostandard({ ts: true, ignores: resolveIgnoresFromGitignore() }),
  {
    // A schema and its type share one name: `export const Problem = …; export type Problem = Static<typeof Problem>`.
    files: ['schemas/**/*.ts', 'plugins/**/*.ts', 'demo/**/*.ts', 'test/**/*.ts'],
    rules: { 'no-redeclare': 'off', '@typescript-eslint/no-redeclare': 'off' },
  },
  {
    // What browsers have is known to the compiler, which checks these (demo/web/tsconfig.json).
    files: ['demo/web/**/*.js'],
    rules: { 'no-undef': 'off' },
  },
  {
    // The few places that pass on a text which they were given say so, each with its reason.
    files: ['plugins/**/*.ts', 'demo/**/*.ts'],
    ignores: ['plugins/state/**', 'demo/vulnerable/**'], // there `script` is Redis's; and what the rule forbids is what the twin is for
    rules: { 'no-restricted-syntax': ['error', ...sqlIsConstant] },
  },
]
