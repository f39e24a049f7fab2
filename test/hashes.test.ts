/** Hashes are those of SHA-2: read from the source, so that one which is added is looked at too. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
/** Where a standard or a peer asks for SHA-1, and nothing rests on its resistance to collisions. */
const SHA1 = [
  'plugins/mfa/totp.ts SHA1', // HMAC-SHA-1 of RFC 6238, the one that all authenticators know
  'plugins/passwords/breached.ts sha1', // the key of the list of breached passwords
  'plugins/state/scripts.ts sha1', // Redis's name of a script (EVALSHA)
]
/** The attack kit has to reckon what careless services reckon; the twin is careless. */
const ATTACKS = /^(?:plugins\/testing|demo\/(?:vulnerable|attacks|lab))\//

/** What is hashed by something else than SHA-2, or by what only the run knows: file and algorithm. */
function weak (folder: string): string[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts')).map(name => `${folder}/${name.replaceAll('\\', '/')}`).sort()
  return files.flatMap(file => {
    const source = readFileSync(join(ROOT, file), 'utf8')
    const calls = [...source.matchAll(/(?:\b(?:createHash|createHmac|hkdf|hkdfSync|pbkdf2|pbkdf2Sync)|(?<![.\w])hash(?=\('))\(\s*([^\s,)]+)|\balgorithm: ('SHA[^']*')/g)].map(([, called, option]) => (called ?? option)!)
    return calls.filter(algorithm => !/^'(?:sha|SHA-?)(?:256|384|512)'$/.test(algorithm)).map(algorithm => `${file} ${algorithm.replaceAll("'", '')}`)
  })
}

t.test('every hash, HMAC and derived key of the suite is of SHA-2 [ASVS 11.4.1]', async t => {
  t.strictSame(weak('plugins').filter(line => !ATTACKS.test(line)), SHA1)
  t.ok(weak('demo').includes('demo/vulnerable/flaws/predictable-reset-token.ts md5'), "negative control: the twin's token is found, which anybody reckons")
})
