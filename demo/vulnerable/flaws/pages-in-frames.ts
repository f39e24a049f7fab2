/** Pages come without a policy, and any other page shows them in a frame (CWE-1021; API8). `headers` sends one with each answer. */
import type { Twin } from '../app.js'

const PAGE = '<!doctype html><html lang="en"><title>Member portal</title><h1>Member portal</h1><form method="post" action="/session/profile"><button>Save</button></form></html>'

export default function pagesInFrames ({ app }: Twin): void {
  app.get('/', async (_request, reply) => reply.type('text/html; charset=utf-8').send(PAGE))
}
