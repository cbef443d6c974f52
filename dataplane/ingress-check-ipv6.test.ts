/**
 * The ingress check on an underlay of IPv6 and about sources of IPv6: a slow twin that compares
 * addresses as text judges random packets from random hosts.
 */
import fc from 'fast-check'
import t from 'tap'
import { addressBytes6, parseAddress, parseAddress6 } from './address.js'
import { INGRESS, READ } from './counters.js'
import * as flow from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createAddress,
  createTestHost,
  PORT,
  PUBLIC6_B,
  type TestHost,
  type TestHostOptions,
} from './host-fixture.js'
import type { IngressCheckMode, Refusal } from './ingress-check.js'
import { endpoint6 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'

/** Text to 128 bits. */
function bits(text: string): bigint {
  const address = parseAddress(text)
  if (typeof address !== 'bigint') throw new RangeError(text)
  return address
}

// Hosts that differ in each of an address's four words from the peer.
const PEER = PUBLIC6_B
const THIRD = bits('fd30::13')
const STRANGERS = [bits('fd31::12'), bits('fd30:0:1::12'), bits('fd30::1:0:12'), bits('fd30::112')]
const NAT = bits('2001:db8::7')

/** Ours, the peer's, the third host's and nobody's. */
const sources = [
  'fd05:1::9',
  'fd05:2::9',
  'fd05:3::77',
  'fd05:9::1',
  'fd07::7',
  '10.5.2.9',
  '10.5.9.1',
]
const leases: readonly [string, bigint | null][] = [
  ['fd05:1::', null],
  ['fd05:2::', PEER],
  ['fd05:3::', THIRD],
  ['10.5.2.', PEER],
]
const exceptions = [
  { addr: bits('fd05:3::40'), len: 122, from: NAT },
  { addr: createAddress('10.5.2.0'), len: 24, from: NAT },
]

const octets = (text: string): number[] =>
  text.includes(':') ? [...(parseAddress6(text) ?? [])] : text.split('.').map(Number)

function createHost(options: TestHostOptions = {}): TestHost {
  const host = createTestHost({ hasIpv6: true, outer: 6, ...options })
  const subnet = Uint8Array.from(octets('fd05:3::'))
  host.fib.writer.insert6(subnet, 64, host.fib.hops.addPeer(addressBytes6(THIRD), PORT))
  host.hosts.add(THIRD)
  return host
}

function packetFrom(source: string): Uint8Array {
  const to = source.includes(':') ? flow.HOST_A6 : flow.HOST_A
  return flow.createPacket({ protocol: flow.UDP, from: octets(source), to })
}

function inject(host: TestHost, from: bigint, source: string): void {
  host.outside.inject(packetFrom(source), endpoint6(addressBytes6(from), PORT))
}

function twin(mode: IngressCheckMode, from: bigint, source: string): string {
  if (mode === 'off') return 'forward'
  const lease = leases.find(([prefix]) => source.startsWith(prefix))
  if (lease?.[1] === from) return 'forward'
  if (from === NAT && ['fd05:3::77', '10.5.2.9'].includes(source)) return 'forward'
  if (![PEER, THIRD, NAT].includes(from)) return 'drop_source_unknown'
  if (lease !== undefined) return 'drop_source_forged'
  return mode === 'strict' ? 'drop_source_outside' : 'forward'
}

t.test('property: hosts and sources of IPv6 are judged as by the leases', async () => {
  const sent = fc.record({
    from: fc.constantFrom(PEER, THIRD, NAT, ...STRANGERS),
    source: fc.constantFrom(...sources),
  })
  const runs = fc.array(fc.record({ one: sent, times: fc.integer({ min: 1, max: 3 }) }), {
    minLength: 1,
    maxLength: 12,
  })
  fc.assert(
    fc.property(
      fc.constantFrom<IngressCheckMode>('leases', 'strict', 'off'),
      fc.boolean(),
      runs,
      (mode, isOffloaded, sequence) => {
        const offload = isOffloaded ? { offload: ALL_OFFLOADS } : {}
        const host = createHost({ ...offload, ingressCheck: { mode, exceptions } })
        const want = new Map<string, number>()
        let total = 0
        for (const { one, times } of sequence) {
          for (let i = 0; i < times; i++) {
            inject(host, one.from, one.source)
            const name = twin(mode, one.from, one.source)
            want.set(name, (want.get(name) ?? 0) + 1)
            total++
          }
        }
        while (host.engine.breath() > 0);
        verdict.VERDICTS.forEach(([name], v) => {
          const got = host.counters.packets(INGRESS, v)
          if (got !== (want.get(name) ?? 0)) throw new Error(`${name}: ${String(got)}`)
        })
        return host.counters.gaugeValue(READ + INGRESS) === total
      },
    ),
  )
})

t.test('a refusal names the host and the source in full', async (t) => {
  const told: Refusal[] = []
  const host = createHost({ onRefused: (refusal) => told.push(refusal) })
  inject(host, THIRD, 'fd05:2::9')
  host.engine.breath()
  t.same(told, [
    {
      verdict: verdict.DROP_SOURCE_FORGED,
      from: [0xfd300000 | 0, 0, 0, 0x13],
      source: [0xfd050002 | 0, 0, 0, 9],
    },
  ])
})

t.test('a host that is forgotten is unknown', async (t) => {
  const host = createHost()
  host.hosts.add(THIRD)
  host.hosts.remove(THIRD)
  inject(host, THIRD, 'fd07::7')
  host.engine.breath()
  t.equal(host.counters.packets(INGRESS, verdict.FORWARD), 1, 'added twice, removed once')
  host.hosts.remove(THIRD)
  inject(host, THIRD, 'fd07::7')
  host.engine.breath()
  t.equal(host.counters.packets(INGRESS, verdict.DROP_SOURCE_UNKNOWN), 1)
})
