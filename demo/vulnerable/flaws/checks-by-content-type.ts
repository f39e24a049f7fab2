/** What is checked hangs on a Content-Type that is written in one way, and what is parsed on any way (CWE-436; API8). `validation` checks whatever was parsed, and takes nothing else. */
import type { Twin } from '../app.js'

export default function checksByContentType ({ app }: Twin): void {
  app.addHook<{ Body?: { website?: string } }>('preHandler', async request => {
    if (request.headers['content-type'] !== 'application/json') return
    const website = request.body?.website
    if (website !== undefined && !/^https?:/.test(website)) throw Object.assign(new Error('A website begins with http: or https:'), { statusCode: 400 })
  })
}
