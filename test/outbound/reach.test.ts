/** Which addresses everybody can reach. */
import { BlockList } from 'node:net'
import t from 'tap'
import { specialKind } from '../../plugins/outbound/reach.js'

t.test('addresses that everybody can reach are none of the special ones', async t => {
  for (const address of [
    '1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255', '128.0.0.1', '169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0', '192.0.1.0', '192.167.255.255', '192.169.0.0',
    '198.17.255.255', '198.20.0.0', '198.51.99.255', '198.51.101.0', '203.0.112.255', '203.0.114.0', '223.255.255.255', '168.63.129.15', '168.63.129.17',
    '2606:4700:4700::1111', '2001:4860:4860::8888', '2001:200::1', '2A00:1450:4001:81B::200E', '2003::1', '2400:cb00::1', '3fff:1000::1', '2001:db7:ffff::1', '2001:db9::',
  ]) t.equal(specialKind(address), null, address)
})

t.test('every special range is known, from its first address to its last [ASVS 1.3.6]', async t => {
  for (const [kind, addresses] of Object.entries({
    loopback: ['127.0.0.0', '127.0.0.1', '127.255.255.255', '::1', '0:0:0:0:0:0:0:1'],
    metadata: ['169.254.169.254', 'fd00:ec2::254', 'FD00:0EC2::0254', '192.0.0.192', '100.100.100.200', '168.63.129.16'],
    private: ['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255', '192.168.0.0', '192.168.255.255', 'fc00::', 'fd12:3456::1', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fec0::', 'feff::1'],
    'link-local': ['169.254.0.0', '169.254.255.255', 'fe80::', 'fe80::1', 'febf:ffff::1'],
    shared: ['100.64.0.0', '100.127.255.255'],
    documentation: ['192.0.2.0', '192.0.2.255', '198.51.100.0', '198.51.100.255', '203.0.113.0', '203.0.113.255', '2001:db8::', '2001:db8:ffff::1', '3fff::1', '3fff:fff:ffff::1'],
    multicast: ['224.0.0.0', '239.255.255.255', 'ff00::', 'ff02::1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    tunnel: [
      '2002::', '2002:0808:0808::1', '2002:7f00:1::', '2002:ffff::', '2001::', '2001:0:4136:e378:8000:63bf:3fff:fdd2', '2001:0:ffff::', '192.88.99.0', '192.88.99.255',
      '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::FFFF:808:808', '0:0:0:0:0:ffff:a00:1', '64:ff9b::8.8.8.8', '64:ff9b::a00:1', '64:ff9b::7f00:1',
    ],
    reserved: [
      '0.0.0.0', '0.255.255.255', '192.0.0.0', '192.0.0.8', '192.0.0.255', '198.18.0.0', '198.19.255.255', '240.0.0.0', '255.255.255.254', '255.255.255.255',
      '::', '::2', '::127.0.0.1', '::8.8.8.8', '::a00:1', '64:ff9b:1::1', '64:ff9b:1:ffff::a00:1', '100::1', '1fff:ffff::', '2001:1::1', '2001:2::1', '2001:10::1', '2001:20::1', '2001:1ff:ffff::', '4000::', '5f00::1', 'e000::1', '::ffff:0:127.0.0.1',
    ],
    unreadable: ['', ' ', 'localhost', '127.1', '2130706433', '0x7f000001', '0177.0.0.1', '010.0.0.1', '127.0.0.1 ', ' 127.0.0.1', '127.0.0.1:80', '[::1]', '[::1]:80', '::1%lo', 'fe80::1%eth0', '2606:4700::1%1', '1.1.1.1/8', '1.1.1.1,10.0.0.1', '1.1.1.256', '１.1.1.1', '::g', ':::1'],
  })) for (const address of addresses) t.equal(specialKind(address), kind, address)
})

t.test('for any address, in any spelling, it says what the registries say', async t => {
  const special = new BlockList()
  for (const range of [
    '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/3',
  ]) special.addSubnet(range.split('/')[0]!, Number(range.split('/')[1]), 'ipv4')
  for (let i = 0; i < 2000; i++) {
    const bytes = Array.from({ length: 4 }, () => Math.floor(Math.random() * 256))
    const address = bytes.join('.')
    if (address === '168.63.129.16') continue
    if ((specialKind(address) !== null) !== special.check(address, 'ipv4')) t.fail(address)
    const [high, low] = [bytes[0]! << 8 | bytes[1]!, bytes[2]! << 8 | bytes[3]!].map(group => group.toString(16))
    for (const form of [`::ffff:${address}`, `::ffff:${high}:${low}`, `::${address}`, `64:ff9b::${address}`, `64:ff9b:1::${high}:${low}`, `2002:${high}:${low}::1`, `2001:0:${high}:${low}::`]) {
      if (specialKind(form) === null) t.fail(form)
    }
    const groups = Array.from({ length: 8 }, () => Math.floor(Math.random() * 65_536))
    const isGlobal = groups[0]! >> 13 === 1 && groups[0] !== 0x2002 && !(groups[0] === 0x2001 && (groups[1]! < 0x200 || groups[1] === 0xdb8)) && !(groups[0] === 0x3fff && groups[1]! < 0x1000)
    const text = groups.map(group => group.toString(16)).join(':')
    if ((specialKind(text) === null) !== isGlobal) t.fail(text)
  }
  t.pass()
})
