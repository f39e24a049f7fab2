/** What is guarded is told by how the URL begins, as it was written (CWE-647; API5). `access` hangs on the route that runs, however it was spelled. */
import type { Twin } from '../app.js'

const STAFF = ['nurse', 'doctor', 'admin']

export default function guardsByUrl ({ app, userOf }: Twin): void {
  app.addHook('onRequest', async request => {
    if (!request.url.startsWith('/patients')) return
    const { role } = await userOf(request)
    if (!STAFF.includes(role)) throw Object.assign(new Error('Not for you'), { statusCode: 403 })
  })
}
