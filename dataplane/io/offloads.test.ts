/**
 * What is found out about offloads at the start, on this kernel and on older and broken ones, with a
 * real TUN and a real socket in a network namespace of this test's own: the file starts itself again
 * inside.
 */
import { ip } from '../netns-fixture.js'
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { native } from '../native/native.js'
import { NO_OFFLOAD, OFFLOADS, type OffloadOptions } from '../offload/offload.js'
import {
  createFault,
  createKernel,
  forgetOption,
  knowOffloads,
  sendUpTo,
  sendWhole,
} from './kernel-fixture.js'
import { ALL_OFFLOADS, Offloads, type OffloadKernel, type OffloadWish } from './offloads.js'
import { openUdp } from './udp-port.js'

const EINVAL = 22
const EIO = 5
const { UDP_GRO, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 } = native.constants
const TCP_ONLY = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6

ip('link set lo up')

interface Started {
  readonly states: Record<string, string>
  readonly options: OffloadOptions
  readonly offloads: Offloads
}

/** Everything that a start does, on devices that are gone again when it returns. */
function start(wish: Partial<OffloadWish> = {}, answers: Partial<OffloadKernel> = {}): Started {
  const offloads = new Offloads({ ...ALL_OFFLOADS, ...wish }, createKernel(answers))
  const socket = openUdp({ family: 4, address: '127.0.0.1', port: 0 })
  offloads.enableTrains(socket)
  const tun = offloads.openTun('hdl%d')
  ip(`link set ${tun.name} up`)
  offloads.testDevice(tun)
  native.close(tun.fd)
  native.close(socket.fd)
  return { states: statesOf(offloads), options: offloads.options, offloads }
}

/** State and detail of each offload. */
function statesOf(offloads: Offloads): Record<string, string> {
  const said = offloads.describe().map(({ name, state, detail }) => [name, `${state}: ${detail}`])
  return Object.fromEntries(said) as Record<string, string>
}

/** What is found without anything in its way: what this kernel has. */
const whole = start()
const runs = whole.options.maxRun
const isNew = Object.values(whole.states).every((said) => said.startsWith('on: '))
const skip = isNew ? false : `this kernel lacks something: ${JSON.stringify(whole.states)}`

t.test('a new kernel has everything', { skip }, async (t) => {
  t.strictSame(whole.states, {
    'tun-offload': 'on: TCP super-packets',
    'tun-uso': 'on: UDP super-packets',
    'tun-gro': 'on: joins TCP and UDP',
    'tun-ring': 'on: many packets a read',
    'udp-segment': `on: up to ${runs} packets a send`,
    'udp-gro': 'on: trains of datagrams',
  })
  t.strictSame(whole.options, {
    hasVnet: true,
    canJoinTcp: true,
    canJoinUdp: true,
    maxRun: runs,
    hasTrains: true,
    hasRing: true,
  })
  t.same(Object.keys(whole.states), OFFLOADS)
})

/** Counts of the namespace's IPv4 by name (RFC 4293, /proc/net/snmp). */
function ipCounts(): Record<string, number> {
  const [names = '', values = ''] = readFileSync('/proc/net/snmp', 'utf8').split('\n')
  const numbers = values.split(' ').map(Number)
  const entries = names.split(' ').map((name, i) => [name, numbers[i] ?? 0] as const)
  return Object.fromEntries(entries.slice(1))
}

t.test('the test of the device reaches nobody', { skip }, async (t) => {
  ip('address add 192.0.2.2/24 dev lo')
  const offloads = new Offloads(ALL_OFFLOADS)
  const tun = offloads.openTun('hdl%d')
  ip(`link set ${tun.name} up`)
  const before = ipCounts()
  offloads.testDevice(tun)
  const after = ipCounts()
  const moved = Object.keys(after).filter((name) => after[name] !== before[name])
  t.same(moved.sort(), ['InHdrErrors', 'InReceives'])
  t.equal((after['InHdrErrors'] ?? 0) - (before['InHdrErrors'] ?? 0), 2)
  native.close(tun.fd)
  ip('address del 192.0.2.2/24 dev lo')
})

t.test('nothing is left behind', async (t) => {
  const leftovers = (): unknown => [
    readdirSync('/proc/self/fd').length,
    readFileSync('/proc/net/udp', 'utf8').split('\n').length,
    readdirSync('/sys/class/net').length,
    readFileSync('/proc/net/dev', 'utf8').split('\n').length,
  ]
  const before = leftovers()
  start()
  start({}, { send: sendWhole, setTunOffload: knowOffloads(0) })
  t.same(leftovers(), before)
})

interface Wished {
  readonly wish: Partial<OffloadWish>
  readonly states: Record<string, string>
  readonly options: Partial<OffloadOptions>
}
const OFF = 'off: '
const wishes: readonly Wished[] = [
  {
    wish: { 'tun-offload': false },
    states: {
      'tun-offload': OFF,
      'tun-uso': 'off: needs tun-offload',
      'tun-gro': 'off: needs tun-offload',
    },
    options: { hasVnet: false, canJoinTcp: false, canJoinUdp: false },
  },
  {
    wish: { 'tun-uso': false },
    states: { 'tun-uso': OFF, 'tun-gro': 'on: joins TCP' },
    options: { canJoinUdp: false },
  },
  {
    wish: { 'tun-gro': false },
    states: { 'tun-gro': OFF },
    options: { canJoinTcp: false, canJoinUdp: false },
  },
  { wish: { 'tun-ring': false }, states: { 'tun-ring': OFF }, options: { hasRing: false } },
  { wish: { 'udp-segment': false }, states: { 'udp-segment': OFF }, options: { maxRun: 1 } },
  { wish: { 'udp-gro': false }, states: { 'udp-gro': OFF }, options: { hasTrains: false } },
  {
    wish: { maxRun: 64 },
    states: { 'udp-segment': `on: up to ${Math.min(64, runs)} packets a send` },
    options: { maxRun: Math.min(64, runs) },
  },
]
for (const { wish, states, options } of wishes) {
  t.test(`wished: ${JSON.stringify(wish)}`, { skip }, async (t) => {
    const got = start(wish)
    t.strictSame(got.states, { ...whole.states, ...states })
    t.strictSame(got.options, { ...whole.options, ...options })
  })
}

t.test('nothing wished: plain devices, and no test is made', async (t) => {
  const none = Object.fromEntries(OFFLOADS.map((name) => [name, false]))
  const refuse = (): never => {
    throw new Error('not called')
  }
  const { states, options } = start(none, { send: refuse, udpSocket: refuse, write: refuse })
  t.strictSame(new Set(Object.values(states)), new Set([OFF]))
  t.strictSame(options, NO_OFFLOAD)
})

/** A `write` that refuses super-packets of a GSO type. */
const refuseGso =
  (type: number, errno: number): OffloadKernel['write'] =>
  (fd, arena, pieces, entries, count, first) => {
    if (arena[(pieces[0] ?? 0) + 1] !== type) {
      return native.write(fd, arena, pieces, entries, count, first)
    }
    entries[4] = errno
    return 1
  }

interface Old {
  readonly name: string
  readonly answers: Partial<OffloadKernel>
  readonly states: Record<string, string>
  readonly options: Partial<OffloadOptions>
}
const kernels: readonly Old[] = [
  {
    name: 'without USO (before 6.2)',
    answers: { setTunOffload: knowOffloads(TCP_ONLY) },
    states: {
      'tun-uso': 'unavailable: EINVAL (ioctl TUNSETOFFLOAD)',
      'tun-gro': 'on: joins TCP',
    },
    options: { canJoinUdp: false },
  },
  {
    name: 'without any TUN offload',
    answers: { setTunOffload: knowOffloads(0) },
    states: {
      'tun-offload': 'unavailable: EINVAL (ioctl TUNSETOFFLOAD)',
      'tun-uso': 'unavailable: EINVAL (ioctl TUNSETOFFLOAD)',
      'tun-gro': 'unavailable: needs tun-offload',
    },
    options: { canJoinTcp: false, canJoinUdp: false },
  },
  {
    name: 'without virtio-net headers',
    answers: {
      openTun: (pattern, vnetHdr, multiQueue) => {
        if (vnetHdr) throw createFault('EINVAL', EINVAL, 'ioctl TUNSETIFF')
        return native.openTun(pattern, vnetHdr, multiQueue)
      },
    },
    states: {
      'tun-offload': 'unavailable: EINVAL (ioctl TUNSETIFF)',
      'tun-uso': 'unavailable: needs tun-offload',
      'tun-gro': 'unavailable: needs tun-offload',
    },
    options: { hasVnet: false, canJoinTcp: false, canJoinUdp: false },
  },
  {
    name: 'that takes no TCP super-packet',
    answers: { write: refuseGso(1, EINVAL) },
    states: { 'tun-gro': 'unavailable: a TCP super-packet: EINVAL' },
    options: { canJoinTcp: false, canJoinUdp: false },
  },
  {
    name: 'that takes no UDP super-packet',
    answers: { write: refuseGso(5, EINVAL) },
    states: { 'tun-gro': 'on: joins TCP, not UDP: a UDP super-packet: EINVAL' },
    options: { canJoinUdp: false },
  },
  {
    name: 'whose device is down',
    answers: { write: refuseGso(1, EIO) },
    states: { 'tun-gro': 'untested: joins TCP and UDP; a TCP super-packet: EIO' },
    options: {},
  },
  {
    name: 'that takes 64 packets a send (before 6.10)',
    answers: { send: sendUpTo(64, EINVAL) },
    states: { 'udp-segment': 'on: up to 64 packets a send' },
    options: { maxRun: 64 },
  },
  {
    name: 'without UDP_SEGMENT (before 4.18)',
    answers: { send: sendWhole },
    states: {
      'udp-segment': 'unavailable: 128 packets in one send arrived as 1',
      'udp-gro': 'untested: trains of datagrams; there is no train to send',
    },
    options: { maxRun: 1 },
  },
  {
    name: 'without io_uring, or a process that may not use it',
    answers: {
      openRing: () => {
        throw createFault('EPERM', 1, 'io_uring_setup')
      },
    },
    states: { 'tun-ring': 'unavailable: EPERM (io_uring_setup)' },
    options: { hasRing: false },
  },
  {
    name: 'without UDP_GRO (before 5.0)',
    answers: { setOption: forgetOption(UDP_GRO) },
    states: { 'udp-gro': 'unavailable: ENOPROTOOPT (setsockopt)' },
    options: { hasTrains: false },
  },
  {
    name: 'without UDP_SEGMENT and UDP_GRO',
    answers: { send: sendWhole, setOption: forgetOption(UDP_GRO) },
    states: {
      'udp-segment': 'unavailable: 128 packets in one send arrived as 1',
      'udp-gro': 'unavailable: ENOPROTOOPT (setsockopt)',
    },
    options: { maxRun: 1, hasTrains: false },
  },
]
for (const { name, answers, states, options } of kernels) {
  t.test(`a kernel ${name}`, { skip }, async (t) => {
    const got = start({}, answers)
    t.strictSame(got.states, { ...whole.states, ...states })
    t.strictSame(got.options, { ...whole.options, ...options })
  })
}

t.test('a loopback that is down: what cannot be tested is used with care', { skip }, async (t) => {
  ip('link set lo down')
  const offloads = new Offloads(ALL_OFFLOADS)
  ip('link set lo up')
  t.match(statesOf(offloads), {
    'udp-segment': 'untested: up to 63 packets a send; nothing passes the loopback',
    'udp-gro': 'untested: trains of datagrams; nothing passes the loopback',
  })
  t.match(offloads.options, { maxRun: 63, hasTrains: true })
})

t.test('what is given up is remembered with its errno and time, once', async (t) => {
  const { offloads } = start()
  const before = Date.now()
  const lost = offloads.giveUp('udp-segment', EIO)
  t.match(lost, { name: 'udp-segment', state: 'given-up', detail: 'EIO' })
  const since = Date.parse(lost?.since ?? '')
  t.ok(since >= before && since <= Date.now())
  t.equal(offloads.giveUp('udp-segment', EINVAL), null)
  t.strictSame(
    offloads.describe().filter(({ since }) => since !== null),
    [lost],
  )
})

t.test('a name that cannot be had is an error, as without offloads', async (t) => {
  t.throws(() => new Offloads(ALL_OFFLOADS).openTun('lo'), { code: 'EINVAL' })
  t.throws(() => new Offloads(ALL_OFFLOADS).openTun('a/b'), { code: 'EINVAL' })
})
