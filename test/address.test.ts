/** Addresses: which count as one caller, and which are in a list. */
import { normalizeIP } from '@fastify/rate-limit'
import t from 'tap'
import { addressKey, addressRanges } from '../plugins/address.js'

t.test('addressKey: the same network is the same key, however it is written', async t => {
  for (const [addresses, key] of [
    [['192.0.2.1', '::ffff:192.0.2.1', '::FFFF:192.0.2.1', '0:0:0:0:0:ffff:c000:201', '192.0.2.1:4711', '[::ffff:192.0.2.1]:4711'], '192.0.2.1'],
    [['2001:db8::1', '2001:DB8:0:0:ffff::', '2001:0db8:0000:0000:1:2:3:4', '[2001:db8::1]:443', '[2001:db8::1]', '2001:db8::192.0.2.1'], '2001:db8:0:0::/64'],
    [['::1', '::', '::ffff:abcd', '::192.0.2.1'], '0:0:0:0::/64'],
    [['fe80::1%eth0', 'fe80::2%1'], 'fe80:0:0:0::/64'],
    [['unknown', undefined as never], 'unknown'],
    [['_hidden:5'], '_hidden:5'],
  ] as [string[], string][]) for (const address of addresses) t.equal(addressKey(address), key, address)

  // The official plugin's own function says the same of random addresses.
  const keys = new Map<string, string>()
  for (let i = 0; i < 2000; i++) {
    const groups = Array.from({ length: 8 }, () => Math.random() < 0.5 ? 0 : Math.floor(Math.random() * 4))
    const text = groups.map(group => group.toString(16)).join(':')
    const address = Math.random() < 0.5 ? text : text.replace(/(?:^|:)0(?::0)+(?::|$)/, '::')
    const theirs = normalizeIP(address, 64)
    const known = keys.get(theirs) ?? addressKey(address)
    keys.set(theirs, known)
    if (known !== addressKey(address)) t.fail(`${address}: ${known} and ${addressKey(address)}`)
  }
  t.equal(new Set(keys.values()).size, keys.size)
})

t.test('addressRanges: an address is in a list however both are written', async t => {
  for (const [list, inside, outside] of [
    [['203.0.113.9'], ['203.0.113.9', '::ffff:203.0.113.9', '203.0.113.9:443', '0:0:0:0:0:ffff:cb00:7109'], ['203.0.113.8', '::203.0.113.9', '203.0.113.90', '::1']],
    [['10.0.0.0/8', '192.0.2.0/31'], ['10.0.0.1', '10.255.255.255', '::ffff:10.1.2.3', '192.0.2.1'], ['11.0.0.0', '9.255.255.255', '192.0.2.2', '::10.0.0.1', '::ffff:11.0.0.1']],
    [['::ffff:10.0.0.0/104'], ['10.9.9.9', '::ffff:10.9.9.9'], ['11.0.0.1', '::ffff:11.0.0.1', '2001:db8::1']],
    [['2001:db8::/32', 'fe80::1'], ['2001:db8::1', '2001:DB8:ffff::', '[2001:db8::1]:443', 'fe80::1%eth0'], ['2001:db9::1', 'fe80::2', '32.1.13.184', '::ffff:32.1.13.184']],
    [[], [], ['127.0.0.1', '::1']],
  ] as const) {
    const isListed = addressRanges(list)
    for (const address of inside) t.ok(isListed(address), `${address} in ${list.join()}`)
    for (const address of [...outside, undefined, '', 'unknown', '10.0.0.1, 10.0.0.2', '010.0.0.1', '10.1', '0x0a000001', '167772161', '10.0.0.1/8']) t.notOk(isListed(address), `${address} not in ${list.join()}`)
  }
  for (const text of ['', 'localhost', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/8/8', '10.0.0.0/', '10.0.0.0/x', '10.0.0/8', '2001:db8::/129', '::ffff:10.0.0.0/64', '*']) {
    t.throws(() => addressRanges([text]), { message: `${JSON.stringify(text)} is not an address or a CIDR block` })
  }
  for (const text of ['0.0.0.0/0', '::/0', '::ffff:0.0.0.0/96']) t.throws(() => addressRanges([text]), { message: `${JSON.stringify(text)} is everybody` })
})

t.test('an IPv4 client behind NAT64 counts as that client, not as the translator', t => {
  t.equal(addressKey('64:ff9b::203.0.113.9'), '203.0.113.9')
  t.equal(addressKey('64:ff9b::cb00:7109'), '203.0.113.9')
  t.equal(addressKey('64:ff9b::cb00:7108'), '203.0.113.8')
  t.equal(addressKey('64:ff9b:1::cb00:7109'), '64:ff9b:1:0::/64', 'only the well-known prefix: others are of networks of their own')
  t.end()
})
