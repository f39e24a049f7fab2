/** Whoever finds a token has it explained: whether it is good, and whose it is (CWE-306, CWE-200; API5). `oauth2` asks for a key that may. */
import type { Twin } from '../app.js'
import { takeForms } from '../forms.js'

export default async function introspectionByAnybody ({ app, userById }: Twin): Promise<void> {
  await app.register(async scope => {
    takeForms(scope)
    scope.post<{ Body: { token: string } }>('/introspect', async request => {
      try {
        const claims = app.jwt.verify<{ sub: string }>(request.body.token)
        const user = await userById(claims.sub)
        return { active: true, ...claims, username: user?.username, email: user?.email, role: user?.role }
      } catch {
        return { active: false }
      }
    })
  })
}
