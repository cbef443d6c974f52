/**
 * Peers that change, and looks at the kernel in between: in any order the kernel ends up with what the leases
 * say, and no look finds anything left to do. With a real kernel, in a network namespace of this test's own
 * (the file starts itself again inside).
 */
import { ip } from '../dataplane/netns-fixture.js'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { Tunnels } from './backend/tunnels.js'
import { createBackend } from './backend/backend.js'
import { KernelState } from './kernel-state.js'
import { LeaseWatcher } from './lease-watcher.js'
import { createLogger } from './log.js'
import { parseNetworkConfig } from './network-config.js'
import { Peers } from './peers.js'
import { leaseOf } from './scripted-store.js'
import { parseSubnetKey } from './subnet-key.js'

ip('link set lo up')
ip('link add eth0 type bridge')
ip('address add 172.30.0.11/24 dev eth0')
ip('link set eth0 up')

const EXTERNAL = {
  name: 'eth0',
  index: 2,
  mtu: 1500,
  address: '172.30.0.11',
  externalAddress: '172.30.0.11',
  address6: null,
  externalAddress6: null,
  notes: [],
}
const OWN = parseSubnetKey('10.5.99.0-24')!

/** What happens: a lease comes or becomes another one's, or goes; a look; a pause. */
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ subnet: fc.nat(7), host: fc.nat(3) }).map((put) => ({ put })),
  },
  { weight: 4, arbitrary: fc.nat(7).map((gone) => ({ gone })) },
  { weight: 2, arbitrary: fc.constant({ look: true as const }) },
  { weight: 1, arbitrary: fc.nat(30).map((pause) => ({ pause })) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

const BACKENDS = [
  { Type: 'vxlan', Dataplane: 'kernel' },
  { Type: 'vxlan', Dataplane: 'kernel', DirectRouting: true },
  { Type: 'vxlan', DirectRouting: true },
  { Type: 'host-gw' },
] as const
type Backend = (typeof BACKENDS)[number]

/** With DirectRouting half of the hosts are on a network that this one is not attached to. */
function addressOf(backend: Backend, host: number): string {
  return `${'DirectRouting' in backend && host % 2 === 1 ? '192.0.2' : '172.30.0'}.${host + 20}`
}

/** A lease of a host: its MAC address goes with it, from subnet to subnet. */
function lease(backend: Backend, subnet: number, host: number) {
  const vtep = { backendData: { VNI: 1, VtepMAC: `0e:00:00:00:00:0${host + 1}` } }
  const publicIP = addressOf(backend, host)
  const data = backend.Type === 'vxlan' ? vtep : {}
  return leaseOf(`10.5.${subnet + 1}.0-24`, publicIP, {
    attrs: { publicIP, publicIPv6: null, backendType: backend.Type, ...data },
  })
}

async function create(Backend: Backend) {
  const config = parseNetworkConfig(JSON.stringify({ Network: '10.5.0.0/16', Backend }))
  const backend = await createBackend(config, EXTERNAL, {
    published: async () => null,
    whyNoVxlan: async () => null,
    runCommand: async () => '',
  })
  const lines: string[] = []
  const log = createLogger({ verbosity: 1, stream: { write: (line) => lines.push(line) } })
  const peers = new Peers({ tunnels: [], kernel: backend.kernel, hooks: null }, OWN, log)
  const tunnels = new Tunnels([], config, OWN)
  let calls = 0
  const state = new KernelState(
    {
      config,
      subnet: OWN,
      former: null,
      backend,
      tunnels,
      peers,
      blackholeRoute: false,
      callForLook: () => {
        calls++
      },
    },
    log,
  )
  const watcher = new LeaseWatcher(OWN)
  return {
    state,
    /** Changes that were made since the last time. */
    applied: () => lines.splice(0).filter((line) => line.includes('applied')),
    calls: () => {
      const before = calls
      calls = 0
      return before
    },
    /** The store tells. */
    put: (subnet: number, host: number) => {
      const event = { type: 'put', lease: lease(Backend, subnet, host) } as const
      state.notePeers(peers.apply(watcher.apply(event)))
    },
    gone: (subnet: number) => {
      const event = { type: 'delete', subnet: lease(Backend, subnet, 0).subnet } as const
      state.notePeers(peers.apply(watcher.apply(event)))
    },
    snapshot: () => {
      state.notePeers(peers.apply(watcher.apply({ type: 'snapshot', leases: [] })))
    },
  }
}

/** Host 0 becomes host 2, both on the underlay's network, and host 1's lease goes. */
const EXPECTED: readonly (readonly [changed: string[], gone: string[]])[] = [
  [
    ['forwarding-remove', 'forwarding-set', 'neighbour-set'],
    ['forwarding-remove', 'neighbour-remove', 'route-remove'],
  ],
  [['route-replace'], ['forwarding-remove', 'neighbour-remove', 'route-remove']],
  [['route-replace'], []],
  [['route-replace'], ['route-remove']],
]

for (const [i, backend] of BACKENDS.entries()) {
  const name = JSON.stringify(backend)
  t.test(`${name}: one change touches its own entries alone`, async (t) => {
    const { state, applied, calls, put, gone, snapshot } = await create(backend)
    await state.apply()
    snapshot()
    await state.apply()
    t.equal(calls(), 1, 'the first list of all calls for a look')
    put(0, 0)
    put(1, 1)
    await state.settled()
    applied()
    put(0, 2)
    await state.settled()
    const kinds = (lines: readonly string[]) =>
      lines.map((line) => /"kind":"([\w-]+)"/.exec(line)?.[1]).sort()
    t.same(kinds(applied()), EXPECTED[i]?.[0])
    gone(1)
    await state.settled()
    t.same(kinds(applied()), EXPECTED[i]?.[1])
    t.equal(calls(), 0, 'and no look')
    await state.apply()
    t.same(applied(), [], 'which would find nothing')
  })

  if ('DirectRouting' in backend) {
    t.test(`${name}: a route of the host that has come since the last look`, async (t) => {
      const { state, applied, put, gone, snapshot } = await create(backend)
      await state.apply()
      snapshot()
      await state.apply()
      const isDirect = () => applied().some((line) => line.includes('"via":"172.30.0.20"'))
      put(0, 0)
      await state.settled()
      t.ok(isDirect(), 'past the tunnel')
      gone(0)
      await state.settled()
      applied()
      ip('route add 172.30.0.20 via 172.30.0.254')
      put(0, 0)
      await state.settled()
      t.notOk(isDirect(), 'behind a gateway now')
      ip('route del 172.30.0.20 via 172.30.0.254')
      gone(0)
      await state.settled()
      await state.apply()
    })
  }

  t.test(`${name}: in any order`, { timeout: 100_000 }, async (t) => {
    const host = await create(backend)
    await host.state.apply()
    host.snapshot()
    let changes = 0
    const play = async (steps: readonly Step[]): Promise<void> => {
      // One at a time, as the repair loop has it.
      let looks = Promise.resolve()
      for (const each of steps) {
        if ('put' in each) host.put(each.put.subnet, each.put.host)
        else if ('gone' in each) host.gone(each.gone)
        else if ('look' in each) looks = looks.then(() => host.state.apply()).catch(() => undefined)
        else await sleep(each.pause)
      }
      await looks
      await host.state.settled()
      // As the repair loop would.
      while (host.calls() > 0) await host.state.apply()
      changes += host.applied().length
      await host.state.apply()
      const left = host.applied()
      if (left.length > 0) throw new Error(`left to do: ${left.join('')}`)
    }
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), play), {
      numRuns: 40,
      interruptAfterTimeLimit: 60_000,
      markInterruptAsFailure: false,
    })
    t.ok(changes > 30, `${changes} changes`)
  })
}
