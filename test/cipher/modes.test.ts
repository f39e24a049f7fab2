/** Modes: which of them the product's sources name, and what those who hold envelopes, and may change them, learn by it. */
import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { sealOf } from '../../plugins/mfa/seal.js'
import { build, PLACE } from './build.js'

const ROOT = new URL('../../', import.meta.url).pathname
const BLOCK = 16
/** What of `node:crypto` and of WebCrypto encrypts, decrypts or wraps a key. */
const ENCRYPTS = /^(?:create(?:Cipher|Decipher)(?:iv)?|(?:public|private)(?:Encrypt|Decrypt)|encrypt|decrypt|wrapKey|unwrapKey|encapsulate|decapsulate)$/

/** Where the product encrypts, and how, as its sources say it. */
function encryptions (): string[] {
  const files = ['plugins', 'schemas', 'demo'].flatMap(folder => readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`))
  return files.filter(name => name.endsWith('.ts') && !name.startsWith('demo/vulnerable/')).sort().flatMap(name => encryptionsIn(name, readFileSync(join(ROOT, name), 'utf8')))
}

function encryptionsIn (name: string, text: string): string[] {
  if (!/from '(?:node:)?crypto'|\bsubtle\b/.test(text)) return []
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.ES2022)
  const constants = new Map<string, string>()
  const found: string[] = []
  function visit (node: ts.Node): void {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.initializer !== undefined && ts.isStringLiteral(node.initializer)) constants.set(node.name.text, node.initializer.text)
    if (ts.isImportSpecifier(node) && node.propertyName !== undefined && ENCRYPTS.test(node.propertyName.text)) found.push(`${name} ${node.propertyName.text} by another name`)
    if (ts.isCallExpression(node)) {
      const called = ts.isPropertyAccessExpression(node.expression) ? node.expression.name.text : ts.isIdentifier(node.expression) ? node.expression.text : ''
      const isOwn = ts.isPropertyAccessExpression(node.expression) && !/^(?:subtle|crypto|webcrypto)$/.test(node.expression.expression.getText(source).split('.').at(-1)!)
      const [algorithm] = node.arguments
      if (!isOwn && ENCRYPTS.test(called)) {
        found.push(`${name} ${called} ${algorithm === undefined ? '' : ts.isStringLiteral(algorithm) ? algorithm.text : constants.get(algorithm.getText(source)) ?? algorithm.getText(source)}`)
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** What a mode shows of a text whose blocks are all the same: how many different blocks it becomes. */
function differentBlocks (bytes: Buffer): number {
  const blocks = Array.from({ length: Math.floor(bytes.length / BLOCK) }, (_none, i) => bytes.toString('latin1', i * BLOCK, (i + 1) * BLOCK))
  return new Set(blocks).size
}

/**
 * The padding oracle of Vaudenay: reads the last block of a text by the answers to changed ones. `answer` is all that whoever asks sees.
 * The letters that were found, from the last one on; it ends where no answer differs from the others.
 */
function readByAnswers (sealed: Buffer, answer: (changed: Buffer) => string): Buffer {
  const before = sealed.length - 2 * BLOCK
  const found = Buffer.alloc(BLOCK)
  for (let at = BLOCK - 1; at >= 0; at--) {
    const padding = BLOCK - at
    const answers = new Map<string, number[]>()
    for (let guess = 0; guess < 256; guess++) {
      const changed = Buffer.from(sealed)
      if (at > 0) changed[before + at - 1]! ^= 0xff // so that no longer padding is good by chance
      for (let i = at + 1; i < BLOCK; i++) changed[before + i]! ^= found[i]! ^ padding
      changed[before + at]! ^= guess ^ padding
      const told = answer(changed)
      answers.set(told, [...answers.get(told) ?? [], guess])
    }
    const [alone, ...others] = [...answers.values()].filter(({ length }) => length === 1)
    if (answers.size !== 2 || alone === undefined || others.length > 0) return found.subarray(at + 1)
    found[at] = alone[0]!
  }
  return found
}

/** What whoever asks is told. */
function told (read: () => unknown): string {
  try {
    return String(read())
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    return `${code} ${message}`
  }
}

t.test('AES-256-GCM is the one mode that encrypts a text, and no key is wrapped by RSA [ASVS 11.3.1] [ASVS 11.3.2]', async t => {
  t.strictSame(encryptions(), [
    'plugins/cipher/xaes.ts createCipheriv aes-256-ecb', // the block cipher of CMAC, which derives the key of each message: it is given counters and nonces alone
    'plugins/cipher/xaes.ts createCipheriv aes-256-gcm',
    'plugins/cipher/xaes.ts createDecipheriv aes-256-gcm',
    'plugins/mfa/seal.ts createCipheriv aes-256-gcm',
    'plugins/mfa/seal.ts createDecipheriv aes-256-gcm',
  ])
  t.strictSame(encryptionsIn('x.ts', "import { createCipheriv as seal, publicEncrypt } from 'node:crypto'\nconst MODE = 'aes-128-cbc'\npublicEncrypt(key, text); crypto.createCipheriv(MODE, key, iv); subtle.encrypt(by, key, text); app.cipher.encrypt(text)"),
    ['x.ts createCipheriv by another name', 'x.ts publicEncrypt key', 'x.ts createCipheriv aes-128-cbc', 'x.ts encrypt by'], 'others would be seen')

  const same = Buffer.alloc(1000 * BLOCK, 'the same sixteen')
  const { app } = await build(t)
  const envelope = Buffer.from(app.cipher.encrypt(same.toString(), PLACE).split('.')[2]!, 'base64url').subarray(24, -16)
  t.equal(differentBlocks(envelope), 1000, 'what is the same in a value is not the same in its envelope')
  const sealed = Buffer.from(sealOf([randomBytes(32)]).seal('ada', same).slice(3), 'base64url').subarray(12, -16)
  t.equal(differentBlocks(sealed), 1000, 'nor in a sealed secret')

  await t.test('negative control: ECB shows which blocks are the same', async t => {
    const cipher = createCipheriv('aes-256-ecb', randomBytes(32), null).setAutoPadding(false)
    t.equal(differentBlocks(cipher.update(same)), 1)
  })
})

t.test('attack: the answers to changed values read nothing of them: the tag is of what was encrypted, and is looked at first [ASVS 11.2.5] [ASVS 11.3.5]', async t => {
  const secret = 'diagnosis: gout, since 1998'
  const { app } = await build(t)
  const [form, id, body] = app.cipher.encrypt(secret, PLACE).split('.')
  const byCipher = readByAnswers(Buffer.from(body!, 'base64url'), changed => told(() => app.cipher.decrypt(`${form}.${id}.${changed.toString('base64url')}`, PLACE)))
  t.equal(byCipher.length, 0)
  const { seal, open } = sealOf([randomBytes(32)])
  const bySeal = readByAnswers(Buffer.from(seal('ada', Buffer.from(secret)).slice(3), 'base64url'), changed => told(() => open('ada', `v1.${changed.toString('base64url')}`)))
  t.equal(bySeal.length, 0)

  await t.test('negative control: of MAC-then-encrypt in CBC, which says what was wrong, they read the text', async t => {
    const [key, macKey, iv] = [randomBytes(32), randomBytes(32), randomBytes(BLOCK)]
    const mac = (text: Buffer) => createHmac('sha256', macKey).update(text).digest()
    const text = Buffer.from('since 1998, gout')
    const sealing = createCipheriv('aes-256-cbc', key, iv)
    const sealed = Buffer.concat([iv, sealing.update(Buffer.concat([mac(text), text])), sealing.final()])
    const open = (bytes: Buffer) => {
      const opening = createDecipheriv('aes-256-cbc', key, bytes.subarray(0, BLOCK))
      const plain = Buffer.concat([opening.update(bytes.subarray(BLOCK)), opening.final()])
      if (plain.length < 32 || !timingSafeEqual(mac(plain.subarray(32)), plain.subarray(0, 32))) throw new Error('the MAC is another')
      return plain.subarray(32)
    }
    t.equal(open(sealed).toString(), text.toString())
    t.equal(readByAnswers(sealed.subarray(0, -BLOCK), changed => told(() => open(changed))).toString(), text.toString(), 'without any key')
  })
})
