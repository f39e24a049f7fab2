/** Mutations of what is good once or so often, sent at once or by others; and of rights that are handed out. */
import type { Mutant } from './table.js'

export const OF_SEVERAL: readonly Mutant[] = [
  {
    expected: 'authorization.grant',
    what: 'a key is given scopes that its maker lacks',
    file: 'plugins/api-keys/index.ts',
    from: '!scopes.every(scope => app.access.can(principal, scope as Permission))',
    to: 'scopes.length === 0',
    on: 'portal',
    only: ['POST /api-keys'],
  },
  {
    expected: 'input.race',
    what: 'a family of tokens is read, and written a moment later',
    file: 'plugins/tokens/grants.ts',
    from: 'outcome = await state.swap(familyKey(claims.fam), family, familyRecord(next, gen), left * 1000)',
    to: "await new Promise(resolve => { setTimeout(resolve, 20) })\n        await state.set(familyKey(claims.fam), familyRecord(next, gen), left * 1000)\n        outcome = 'swapped'",
    on: 'portal',
    only: ['POST /auth/refresh'],
    policy: { headers: false, routes: { 'POST /auth/refresh': { once: true } } },
  },
  {
    expected: 'limits.race',
    what: 'a request is counted after it was decided',
    file: 'plugins/limits/index.ts',
    from: 'const decision = budget.take(subject, rule.cost)',
    to: 'const decision = budget.peek(subject).then(async seen => { await new Promise(resolve => setImmediate(resolve)); if (seen.remaining > 0) await budget.take(subject, rule.cost); return { ...seen, allowed: seen.remaining > 0 } })',
    on: 'service',
    only: ['GET /search'],
  },
  {
    expected: 'limits.shared',
    what: 'all addresses are one',
    file: 'plugins/limits/subject.ts',
    from: 'return principal === null ? subjects.address(ip)',
    to: "return principal === null ? subjects.address('192.0.2.1')",
    on: 'service',
    only: ['GET /search'],
  },
]
