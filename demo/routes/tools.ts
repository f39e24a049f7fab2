/** Search, and whether a host answers. */
import { execFile } from 'node:child_process'
import { connect, isIPv4, isIPv6 } from 'node:net'
import { Type } from '@sinclair/typebox'
import { OutboundFault } from '../../plugins/outbound/index.js'
import { closed, Hostname, Ipv4, Ipv6, page, PageQuery } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { recentPosts } from './posts.js'
import { Post } from './shapes.js'

/** To the letter: no sign in it stands for others. The database keeps no NUL. */
const Text = Type.String({ normalize: 'NFC', minLength: 1, maxLength: 100, pattern: '^[^\\x00]*$' })
const Host = Type.Union([Hostname, Ipv4, Ipv6])

/** Seconds that a host has to answer. */
const PATIENCE = 2
/** Milliseconds after which nobody waits for the program any more. */
const DEADLINE = (PATIENCE + 1) * 1000
/** Where there is no `ping`: whoever takes or refuses a connection is there. */
const PORTS = [443, 80]

export function toolRoutes ({ app, sql }: Portal): void {
  app.get('/search', {
    schema: { querystring: closed({ q: Text, ...PageQuery.properties }), response: { 200: page(Post) } },
    config: { access: 'public', limits: { windows: ['10/minute'], by: 'address', algorithm: 'log' } },
  }, async request => recentPosts(sql, request.query, request.query.q))

  app.get('/ping', {
    schema: { querystring: closed({ host: Host }), response: { 200: closed({ host: Host, reachable: Type.Boolean() }) } },
    config: { access: { permissions: 'tools:ping' }, limits: { windows: ['30/minute'], algorithm: 'log' } },
  }, async request => {
    const { host } = request.query
    const addresses = await app.outbound.resolve(host, { request }).catch(error => {
      // A name that nobody has is not reachable; one that leads inside is refused.
      if (error.cause instanceof OutboundFault && !error.cause.isRefusal) return []
      throw error
    })
    // One of each family: this machine may have no way to the other.
    const asked = [addresses.find(isIPv4), addresses.find(isIPv6)].filter(address => address !== undefined)
    return { host, reachable: (await Promise.all(asked.map(answers))).includes(true) }
  })
}

/** Asks this address once. No shell reads it, and the name that somebody gave is not among the arguments. */
function answers (address: string): Promise<boolean> {
  return new Promise(resolve => {
    execFile('ping', ['-c', '1', '-W', String(PATIENCE), '--', address], {
      shell: false, timeout: DEADLINE, killSignal: 'SIGKILL', maxBuffer: 16_384, env: { PATH: process.env.PATH, LC_ALL: 'C' },
    }, error => {
      if (error === null) resolve(true)
      else if (error.code === 1 || error.killed === true) resolve(false)
      else resolve(takesConnections(address)) // no such program here, or one that may not send
    })
  })
}

async function takesConnections (address: string): Promise<boolean> {
  return (await Promise.all(PORTS.map(port => isAnswered(address, port)))).includes(true)
}

function isAnswered (host: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host, port, timeout: PATIENCE * 1000 })
    const end = (isThere: boolean) => {
      socket.destroy()
      resolve(isThere)
    }
    socket.on('connect', () => { end(true) })
    socket.on('timeout', () => { end(false) })
    socket.on('error', (error: NodeJS.ErrnoException) => { end(error.code === 'ECONNREFUSED') })
  })
}
