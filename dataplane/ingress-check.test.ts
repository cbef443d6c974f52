/**
 * The ingress check in the engine: who may send with which source. Beside the table, a slow twin that
 * goes through the leases one by one judges random packets from random hosts.
 */
import fc from 'fast-check'
import t from 'tap'
import { INGRESS, READ, SOURCES_OUTSIDE } from './counters.js'
import * as flow from './flow-fixture.js'
import {
  ALL_OFFLOADS,
  createAddress,
  createTestHost,
  PORT,
  PUBLIC_A,
  PUBLIC_B,
  type TestHost,
  type TestHostOptions,
} from './host-fixture.js'
import type { IngressCheckMode, Refusal } from './ingress-check.js'
import { endpoint4 } from './io/endpoint.js'
import * as verdict from './packet/verdict.js'

/** A third host, which has 10.5.3.0/24, and a stranger. */
const PUBLIC_C = createAddress('172.30.0.13')
const SUBNET_C = createAddress('10.5.3.0')
const STRANGER = createAddress('172.30.0.66')
const NAT = createAddress('203.0.113.7')

type Octets = readonly [number, number, number, number]
const quad = (text: string): Octets => text.split('.').map(Number) as unknown as Octets

function createHost(options: TestHostOptions = {}): TestHost {
  const host = createTestHost(options)
  host.fib.writer.insert4(SUBNET_C, 24, host.fib.hops.addPeer(PUBLIC_C, PORT))
  host.hosts.add(PUBLIC_C)
  return host
}

function packetFrom(source: string): Uint8Array {
  return flow.createPacket({ protocol: flow.UDP, from: quad(source), to: flow.HOST_A })
}

/** The verdict about one packet. */
function judge(host: TestHost, from: number, source: string, port = PORT): string {
  const before = verdict.VERDICTS.map((_, v) => host.counters.packets(INGRESS, v))
  host.outside.inject(packetFrom(source), endpoint4(from, port))
  host.engine.breath()
  host.inside.drain()
  const found = before.findIndex((n, v) => host.counters.packets(INGRESS, v) !== n)
  return verdict.verdictName(found)
}

const cases: readonly {
  name: string
  from: number
  source: string
  want: Readonly<Record<IngressCheckMode, string>>
}[] = [
  {
    name: 'a pod from its own host',
    from: PUBLIC_B,
    source: '10.5.2.9',
    want: { leases: 'forward', strict: 'forward', off: 'forward' },
  },
  {
    name: 'a host from its own base address',
    from: PUBLIC_B,
    source: '10.5.2.0',
    want: { leases: 'forward', strict: 'forward', off: 'forward' },
  },
  {
    name: 'the same pod from a leased other host',
    from: PUBLIC_C,
    source: '10.5.2.9',
    want: { leases: 'drop_source_forged', strict: 'drop_source_forged', off: 'forward' },
  },
  {
    name: 'the same pod from a host without a lease',
    from: STRANGER,
    source: '10.5.2.9',
    want: { leases: 'drop_source_unknown', strict: 'drop_source_unknown', off: 'forward' },
  },
  {
    name: 'one of our own pods from a peer',
    from: PUBLIC_B,
    source: '10.5.1.20',
    want: { leases: 'drop_source_forged', strict: 'drop_source_forged', off: 'forward' },
  },
  {
    name: 'one of our own pods, with our own outer address',
    from: PUBLIC_A,
    source: '10.5.1.20',
    want: { leases: 'drop_source_unknown', strict: 'drop_source_unknown', off: 'forward' },
  },
  {
    name: "a source in a peer's own network, not masqueraded",
    from: PUBLIC_B,
    source: '192.168.7.7',
    want: { leases: 'forward', strict: 'drop_source_outside', off: 'forward' },
  },
  {
    name: 'a source of the overlay that nobody has leased, from a peer',
    from: PUBLIC_B,
    source: '10.5.200.1',
    want: { leases: 'forward', strict: 'drop_source_outside', off: 'forward' },
  },
  {
    name: 'a source outside from a host without a lease',
    from: STRANGER,
    source: '192.168.7.7',
    want: { leases: 'drop_source_unknown', strict: 'drop_source_unknown', off: 'forward' },
  },
]

for (const { name, from, source, want } of cases) {
  for (const mode of ['leases', 'strict', 'off'] as const) {
    t.test(`${mode}: ${name}`, async (t) => {
      const host = createHost({ ingressCheck: { mode } })
      t.equal(judge(host, from, source), want[mode])
      t.equal(judge(host, from, source, 40_000), want[mode], 'the port does not matter')
      const isOutside =
        mode === 'leases' && !source.startsWith('10.5.2.') && want[mode] === 'forward'
      t.equal(host.counters.gaugeValue(SOURCES_OUTSIDE), isOutside ? 2 : 0)
    })
  }
}

t.test('an exception lets one more address speak for a prefix, and for no other', async (t) => {
  const exceptions = [{ addr: createAddress('10.5.2.0'), len: 24, from: NAT }]
  const host = createHost({ ingressCheck: { exceptions } })
  t.equal(judge(host, NAT, '10.5.2.9'), 'forward')
  t.equal(judge(host, PUBLIC_B, '10.5.2.9'), 'forward', 'its own host still may')
  t.equal(judge(host, NAT, '10.5.3.9'), 'drop_source_forged')
  t.equal(judge(host, NAT, '192.168.7.7'), 'forward', 'it counts as a host')
  t.equal(judge(host, STRANGER, '10.5.2.9'), 'drop_source_unknown')
})

t.test('a lease that moves takes the right to speak with it', async (t) => {
  const host = createHost()
  t.equal(judge(host, PUBLIC_C, '10.5.2.9'), 'drop_source_forged')
  host.fib.writer.insert4(createAddress('10.5.2.0'), 24, host.fib.hops.addPeer(PUBLIC_C, PORT))
  t.equal(judge(host, PUBLIC_C, '10.5.2.9'), 'forward')
  t.equal(judge(host, PUBLIC_B, '10.5.2.9'), 'drop_source_forged')
  host.hosts.remove(PUBLIC_B)
  t.equal(judge(host, PUBLIC_B, '10.5.2.9'), 'drop_source_unknown')
})

t.test('what is not for us is refused as that, whoever sent it', async (t) => {
  const host = createHost()
  const packet = flow.createPacket({ from: quad('10.5.2.9'), to: quad('10.5.9.9') })
  host.outside.inject(packet, endpoint4(STRANGER, PORT))
  host.engine.breath()
  t.equal(host.counters.packets(INGRESS, verdict.DROP_NOT_OUR_SUBNET), 1)
})

t.test('a refusal is told of once in ten seconds, with who sent what', async (t) => {
  const told: Refusal[] = []
  const host = createHost({ onRefused: (refusal) => told.push(refusal) })
  for (let i = 0; i < 5; i++) judge(host, PUBLIC_C, '10.5.2.9')
  judge(host, STRANGER, '10.5.3.1')
  const first = { verdict: verdict.DROP_SOURCE_FORGED, from: [PUBLIC_C] }
  t.same(told, [{ ...first, source: [createAddress('10.5.2.9')] }])
  host.advance(10_000)
  judge(host, STRANGER, '10.5.3.1')
  t.equal(told.length, 2)
  t.match(told[1], { verdict: verdict.DROP_SOURCE_UNKNOWN, from: [STRANGER] })
})

t.test('property: the engine judges as a walk through the leases does', async () => {
  const hosts = [PUBLIC_A, PUBLIC_B, PUBLIC_C, STRANGER, NAT]
  const sources = ['10.5.1.9', '10.5.2.9', '10.5.2.0', '10.5.3.77', '10.5.9.1', '192.168.7.7']
  const leases: readonly [string, number | null][] = [
    ['10.5.1.', null],
    ['10.5.2.', PUBLIC_B],
    ['10.5.3.', PUBLIC_C],
  ]
  const exceptions = [{ addr: createAddress('10.5.3.64'), len: 26, from: NAT }]
  const twin = (mode: IngressCheckMode, from: number, source: string): string => {
    if (mode === 'off') return 'forward'
    const lease = leases.find(([prefix]) => source.startsWith(prefix))
    if (lease?.[1] === from) return 'forward'
    if (from === NAT && source === '10.5.3.77') return 'forward'
    if (![PUBLIC_B, PUBLIC_C, NAT].includes(from)) return 'drop_source_unknown'
    if (lease !== undefined) return 'drop_source_forged'
    return mode === 'strict' ? 'drop_source_outside' : 'forward'
  }
  const sent = fc.record({ from: fc.constantFrom(...hosts), source: fc.constantFrom(...sources) })
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
            host.outside.inject(packetFrom(one.source), endpoint4(one.from, PORT))
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
