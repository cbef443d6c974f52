import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { formatSubnet } from './lease.js'
import { formatPrefix4, formatPrefix6, parsePrefix4, parsePrefix6 } from './prefix.js'
import {
  formatSubnetFile,
  parsePreviousSubnet,
  parseSubnetList,
  readPreviousSubnet,
  writeSubnetFile,
  type SubnetFile,
} from './subnet-file.js'

const V4: SubnetFile = {
  network: parsePrefix4('10.5.0.0/16')!,
  ipv6Network: null,
  subnet: { v4: parsePrefix4('10.5.72.0/24')!, v6: null },
  mtu: 1472,
  ipMasq: false,
}
const DUAL: SubnetFile = {
  ...V4,
  ipv6Network: parsePrefix6('fc00::/48')!,
  subnet: { ...V4.subnet, v6: parsePrefix6('fc00:0:0:1::/64')! },
  ipMasq: true,
}
const V4_TEXT =
  'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n'

t.test('text', (t) => {
  t.equal(formatSubnetFile(V4), V4_TEXT)
  t.equal(
    formatSubnetFile(DUAL),
    'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n' +
      'FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00:0:0:1::1/64\n' +
      'FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  )
  t.end()
})

const mode = (path: string) => statSync(path).mode & 0o777

t.test('writing: modes under a tight umask', async (t) => {
  const before = process.umask(0o077)
  t.teardown(() => process.umask(before))
  const top = t.testdir()
  const path = join(top, 'run', 'flannel', 'subnet.env')
  await writeSubnetFile(path, V4)
  t.equal(readFileSync(path, 'utf8'), V4_TEXT)
  t.equal(mode(path), 0o644)
  t.equal(mode(join(top, 'run')), 0o755)
  t.equal(mode(join(top, 'run', 'flannel')), 0o755)
  chmodSync(path, 0o640)
  await writeSubnetFile(path, DUAL)
  t.equal(mode(path), 0o640, 'the mode of the file replaced is kept')
  t.equal(readFileSync(path, 'utf8'), formatSubnetFile(DUAL))
  t.same(readdirSync(join(top, 'run', 'flannel')), ['subnet.env'], 'nothing beside it')
})

t.test('an existing folder keeps its mode', async (t) => {
  const top = t.testdir({ d: {} })
  chmodSync(join(top, 'd'), 0o700)
  await writeSubnetFile(join(top, 'd', 'subnet.env'), V4)
  t.equal(mode(join(top, 'd')), 0o700)
  await writeSubnetFile(join(top, 'd', 'e', 'subnet.env'), V4)
  t.equal(mode(join(top, 'd')), 0o700, 'also when one is made in it')
})

t.test('failure leaves nothing behind', async (t) => {
  const top = t.testdir({ file: '' })
  mkdirSync(join(top, 'subnet.env'))
  await t.rejects(writeSubnetFile(join(top, 'subnet.env'), V4), { code: 'EISDIR' })
  t.same(readdirSync(top).sort(), ['file', 'subnet.env'])
  await t.rejects(writeSubnetFile(join(top, 'file', 'subnet.env'), V4), { code: 'EEXIST' })
})

t.test('a reader never sees a part', async (t) => {
  const path = join(t.testdir(), 'subnet.env')
  await writeSubnetFile(path, V4)
  const whole = new Set([formatSubnetFile(V4), formatSubnetFile(DUAL)])
  let isOver = false
  let reads = 0
  const reader = async () => {
    while (!isOver) {
      const text = await readFile(path, 'utf8')
      if (!whole.has(text)) t.fail(`partial: ${text}`)
      reads++
    }
  }
  const reading = reader()
  for (let i = 0; i < 20; i++) await writeSubnetFile(path, i % 2 === 0 ? DUAL : V4)
  isOver = true
  await reading
  t.ok(reads > 0)
})

t.test('lists: what is no subnet is skipped', (t) => {
  t.same(parseSubnetList('10.1.0.1/16,bogus,10.2.0.0/16', parsePrefix4).map(formatPrefix4), [
    '10.1.0.0/16',
    '10.2.0.0/16',
  ])
  t.same(parseSubnetList('fc00::1/64,bogus,fc01::/64', parsePrefix6).map(formatPrefix6), [
    'fc00::/64',
    'fc01::/64',
  ])
  t.same(parseSubnetList('bogus', parsePrefix4), [])
  t.same(parseSubnetList('10.0.0.0/8', parsePrefix6), [])
  t.end()
})

const REMEMBERED: readonly [string, string, string | null][] = [
  ['as written', V4_TEXT, '10.5.72.0/24'],
  ['dual stack', formatSubnetFile(DUAL), '10.5.72.0/24,fc00:0:0:1::/64'],
  ['CRLF', V4_TEXT.replaceAll('\n', '\r\n'), '10.5.72.0/24'],
  [
    'comments',
    '# c\n\nFLANNEL_SUBNET=10.5.72.1/24 # mine\n#FLANNEL_SUBNET=10.5.1.1/24',
    '10.5.72.0/24',
  ],
  ['export', 'export FLANNEL_SUBNET=10.5.72.1/24', '10.5.72.0/24'],
  ['double quotes', 'FLANNEL_SUBNET="10.5.72.1/24"', '10.5.72.0/24'],
  ['single quotes', "FLANNEL_SUBNET='10.5.72.1/24' # c", '10.5.72.0/24'],
  ['spaces', '  FLANNEL_SUBNET = 10.5.72.1/24  ', '10.5.72.0/24'],
  ['colon', 'FLANNEL_SUBNET: 10.5.72.1/24', '10.5.72.0/24'],
  ['the later line', 'FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_SUBNET=10.5.2.1/24', '10.5.2.0/24'],
  ['one valid of a list', 'FLANNEL_SUBNET=bogus,10.5.72.1/24', '10.5.72.0/24'],
  ['two valid of a list', 'FLANNEL_SUBNET=10.5.1.1/24,10.5.72.1/24', null],
  [
    'two valid IPv6',
    'FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_IPV6_SUBNET=fc00::/64,fc01::/64',
    '10.5.1.0/24',
  ],
  ['bad IPv6', 'FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_IPV6_SUBNET=x', '10.5.1.0/24'],
  ['IPv6 alone', 'FLANNEL_IPV6_SUBNET=fc00:0:0:1::1/64', 'fc00:0:0:1::/64'],
  ['two of IPv6 alone', 'FLANNEL_IPV6_SUBNET=fc00::/64,fc01::/64', null],
  ['none valid', 'FLANNEL_SUBNET=bogus', null],
  ['empty value', 'FLANNEL_SUBNET=', null],
  ['commented out', 'FLANNEL_SUBNET=#10.5.1.1/24', null],
  ['other names', 'MY_FLANNEL_SUBNET=10.5.1.1/24', null],
  ['a broken line before', '=x\n"\nFLANNEL_SUBNET=10.5.1.1/24', '10.5.1.0/24'],
  ['empty', '', null],
]

t.test('reading back', async (t) => {
  for (const [name, text, want] of REMEMBERED) {
    const subnet = parsePreviousSubnet(text)
    t.equal(subnet && formatSubnet(subnet), want, name)
  }
  const top = t.testdir({ good: V4_TEXT })
  t.same(await readPreviousSubnet(join(top, 'good')), V4.subnet)
  t.equal(await readPreviousSubnet(join(top, 'missing')), null)
  t.equal(await readPreviousSubnet(top), null, 'a folder')
  writeFileSync(join(top, 'bytes'), Buffer.from([0, 255, 10, 61, 254]))
  t.equal(await readPreviousSubnet(join(top, 'bytes')), null)
})

t.test('no text breaks the reader', (t) => {
  const unit = fc.constantFrom(...'FLANNEL_SUBNET="\'\\#:, \n10./24'.match(/[^]/g)!)
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit, maxLength: 200 })), (text) => {
      parsePreviousSubnet(`FLANNEL_SUBNET=${text}`)
    }),
    { numRuns: 2000 },
  )
  const started = performance.now()
  parsePreviousSubnet(`FLANNEL_SUBNET=${' '.repeat(20_000)}x${'#'.repeat(20_000)}\n`)
  t.ok(performance.now() - started < 5000, 'nor a long line')
  t.end()
})
