/** A request that gives two lengths is read by one of them, while the proxy before it goes by the other (CWE-444; API8). `server` has Node's strict parser refuse it. */
import type { Twin } from '../app.js'

export default function twoLengths ({ app }: Twin): void {
  // Some old clients of ours send both.
  Object.assign(app.server, { insecureHTTPParser: true })
}
