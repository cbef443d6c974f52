/**
 * Nodes that come, go and change, a path to the API that is cut, and servers that are started again, in random order:
 * whatever happened, in the end what the daemon believes is what the API has, and its own node says what it should.
 * KUBE_MODEL_RUNS asks for more runs than the few of the suite.
 */
import { setTimeout as pause } from 'node:timers/promises'
import * as fc from 'fast-check'
import t, { type Test } from 'tap'
import type { LeaseAttrs } from '../lease.js'
import { parseNetworkConfig } from '../network-config.js'
import { EventRecorder } from '../store/event-recorder.js'
import { TcpRelay } from '../store/tcp-relay.js'
import { formatSubnetKey } from '../subnet-key.js'
import { CONFIG, NAMES, openLeasing, startCluster, type KubePlace } from './kube-fixture.js'
import { objectOf } from './json.js'
import { leaseOfNode, readNode } from './node.js'

const RUNS = Number(process.env['KUBE_MODEL_RUNS'] ?? 3)
const SETTLE_MS = 45_000
t.setTimeout(RUNS * 90_000 + 30_000)

const { signal } = new AbortController()
const OWN = 'own'
const ATTRS: LeaseAttrs = { publicIP: '192.0.2.1', publicIPv6: null, backendType: '' }

/** Peers and their subnets: each has two, so that no two nodes ever have the same. */
const PEERS = ['a', 'b', 'c', 'd'] as const
const subnetOf = (name: string, which: number): string =>
  `10.244.${String(10 + 2 * PEERS.findIndex((peer) => peer === name) + which)}.0/24`

const peer = fc.constantFrom(...PEERS)
const bit = fc.integer({ min: 0, max: 1 })
const address = fc.constantFrom('192.0.2.7', '192.0.2.8', 'no address')
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('add' as const), peer, bit, address }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('remove' as const), peer }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('change' as const), peer, address }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave' as const), peer }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('tamper' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('register' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('heal' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const) }) },
)

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

const annotations = (publicIP: string) => ({
  [NAMES.managed]: 'true',
  [NAMES.backendType]: '',
  [NAMES.backendData]: 'null',
  [NAMES.publicIP]: publicIP,
})

async function take({ cluster }: KubePlace, relay: TcpRelay, present: Set<string>, s: Step) {
  switch (s.kind) {
    case 'add':
      if (present.has(s.peer)) return
      present.add(s.peer)
      await cluster.addNode(s.peer, [subnetOf(s.peer, s.bit)], annotations(s.address))
      return
    case 'remove':
      if (present.delete(s.peer)) await cluster.removeNode(s.peer)
      return
    case 'change':
      if (present.has(s.peer)) await cluster.annotate(s.peer, annotations(s.address))
      return
    case 'leave':
      if (present.has(s.peer)) await cluster.annotate(s.peer, { [NAMES.managed]: null })
      return
    case 'tamper':
      await cluster.annotate(OWN, { [NAMES.publicIP]: '203.0.113.9' })
      return
    case 'register':
      await cluster.removeNode(OWN)
      await cluster.addNode(OWN, ['10.244.1.0/24'])
      return
    case 'cut':
      await relay.cut()
      return
    case 'heal':
      await relay.cut()
      await relay.restore()
      return
    case 'restart':
      await cluster.restart()
      return
    case 'wait':
      await pause(150)
  }
}

/** Addresses by subnet, as the API has them. */
async function truth({ cluster }: KubePlace): Promise<Record<string, string>> {
  const list = objectOf(await cluster.ask('GET', '/api/v1/nodes'))
  const config = parseNetworkConfig(JSON.stringify(CONFIG), 'assigned')
  const leases = (list?.['items'] as unknown[]).flatMap((item) => {
    const node = readNode(item)
    const lease = node === null ? null : leaseOfNode(node, NAMES, config)
    return lease === null || 'fault' in lease ? [] : [lease]
  })
  return Object.fromEntries(
    leases.map(({ subnet, attrs }) => [formatSubnetKey(subnet), attrs.publicIP]),
  )
}

async function play(t: Test, steps: readonly Step[]): Promise<void> {
  const place = await startCluster(t)
  await place.cluster.addNode(OWN, ['10.244.1.0/24'])
  const relay = await TcpRelay.start(place.cluster.url)
  const url = relay.endpoint.replace('http:', 'https:')
  const times = { answerMs: 2000, silenceMs: 5000 }
  const { leasing, log } = await openLeasing(t, place, OWN, { url, times })
  const config = await leasing.readConfig(signal)
  if (config === null) throw new Error('no configuration')
  const tenure = await leasing.take(config, ATTRS, signal)
  const stop = new AbortController()
  const renewing = tenure.renew(stop.signal)
  const recorder = new EventRecorder(leasing)
  leasing.noteReady()
  try {
    const present = new Set<string>()
    for (const one of steps) await take(place, relay, present, one)
    await relay.cut()
    await relay.restore()
    const end = Date.now() + SETTLE_MS
    for (;;) {
      const known = Object.fromEntries(
        [...recorder.leases].map(([key, { attrs }]) => [key, attrs.publicIP]),
      )
      const wanted = await truth(place)
      const isRight = wanted['10.244.1.0-24'] === ATTRS.publicIP
      const conditions = (await place.cluster.node(OWN)).status?.conditions ?? []
      if (isRight && conditions.length > 0 && isSame(known, wanted)) break
      if (Date.now() > end) {
        const what = JSON.stringify({ known, wanted, conditions, steps })
        throw new Error(`it does not settle: ${what}\n${log.join('\n')}`)
      }
      await pause(50)
    }
  } finally {
    stop.abort()
    await Promise.all([renewing, recorder.stop(), relay.cut()])
  }
}

function isSame(a: Record<string, string>, b: Record<string, string>): boolean {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
}

t.test('whatever happens, it settles', async (t) => {
  const samples = fc.sample(fc.array(step, { minLength: 15, maxLength: 30 }), RUNS)
  for (const [i, steps] of samples.entries()) {
    await t.test(`run ${String(i + 1)}: ${steps.map(({ kind }) => kind).join(' ')}`, async (t) => {
      await play(t, steps)
      t.pass('settled')
    })
  }
})
