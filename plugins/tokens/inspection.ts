/** Inspection: what a token of ours says, for those who ask on its behalf (RFC 7009, RFC 7662). */
import type { State } from '../state/index.js'
import { scopesOf, type ClaimsReader } from './claims.js'
import type { Inspection } from './contract.js'
import { isAlive, standingKeys, tokenOf } from './family.js'

export function inspector (read: ClaimsReader, state: State): (token: string) => Promise<Inspection | null> {
  return async function inspect (token: string): Promise<Inspection | null> {
    for (const kind of ['access', 'refresh'] as const) {
      const claims = read(kind, token)
      if (claims === null) continue
      const found = await state.getMany(standingKeys(claims))
      if (!isAlive(found, claims) || (kind === 'refresh' && tokenOf(found[0]!) !== claims.jti)) return null
      const { sub, fam, jti, iat, exp, auth_time: authTime, amr, roles, cnf } = claims
      const scopes = scopesOf(claims)
      return {
        kind,
        userId: sub,
        familyId: fam,
        id: jti,
        issuedAt: iat,
        expiresAt: exp,
        authTime,
        ...(amr !== undefined && { amr }),
        ...(roles !== undefined && { roles }),
        ...(scopes !== undefined && { scopes }),
        ...(cnf !== undefined && { jkt: cnf.jkt }),
      }
    }
    return null
  }
}
