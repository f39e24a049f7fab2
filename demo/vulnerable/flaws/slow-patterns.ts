/** A pattern with a repetition in a repetition takes twice as long for each further letter (CWE-1333; API4). The patterns of `validation` have no such, and lengths are looked at first. */
import type { Twin } from '../app.js'

const TAG = /^([a-z0-9]+-?)+$/i

export default function slowPatterns ({ app }: Twin): void {
  app.addHook<{ Body: { tags?: string[] } }>('preHandler', async request => {
    if (request.method !== 'POST' || request.routeOptions.url !== '/posts') return
    for (const tag of request.body.tags ?? []) if (!TAG.test(tag)) throw Object.assign(new Error('A tag holds letters, digits and hyphens'), { statusCode: 400 })
  })
}
