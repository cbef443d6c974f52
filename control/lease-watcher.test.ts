import fc from 'fast-check'
import t from 'tap'
import { formatSubnet, type Lease, type LeaseAttrs } from './lease.js'
import { LeaseWatcher, type LeaseChanges } from './lease-watcher.js'
import { parseSubnetKey } from './subnet-key.js'

function lease(key: string, attrs: Partial<LeaseAttrs> = {}, version = '1'): Lease {
  return {
    subnet: parseSubnetKey(key)!,
    attrs: { publicIP: '1.1.1.1', publicIPv6: null, backendType: '', ...attrs },
    expiresAt: 1000,
    version,
    storeLease: '7',
  }
}

function text(changes: LeaseChanges): string {
  const own = changes.own
  return [
    ...changes.added.map((l) => `+${formatSubnet(l.subnet)} ${l.attrs.publicIP}`),
    ...changes.changed.map((c) => `~${c.before.attrs.publicIP}>${c.after.attrs.publicIP}`),
    ...changes.removed.map((l) => `-${formatSubnet(l.subnet)} ${l.attrs.publicIP}`),
    ...(own === null ? [] : [`own ${own === 'gone' ? 'gone' : own.version}`]),
  ].join(', ')
}

const OWN = lease('10.3.9.0-24', { publicIP: '9.9.9.9' })
const A = lease('10.3.1.0-24')
const B = lease('10.3.2.0-24', { publicIP: '2.2.2.2' })

t.test('added, repeated, changed, removed', (t) => {
  const watcher = new LeaseWatcher(OWN.subnet)
  t.equal(text(watcher.apply({ type: 'snapshot', leases: [OWN] })), 'own 1', 'the own is no peer')
  t.equal(text(watcher.apply({ type: 'put', lease: A })), '+10.3.1.0/24 1.1.1.1')
  const renewed = { ...A, expiresAt: 2000, version: '2', storeLease: '8' }
  t.equal(text(watcher.apply({ type: 'put', lease: renewed })), '', 'a renewal is no change')
  t.same(watcher.peers, [renewed], 'but its expiry is remembered')
  const moved = lease('10.3.1.0-24', { publicIP: '3.3.3.3' }, '3')
  t.equal(text(watcher.apply({ type: 'put', lease: moved })), '~1.1.1.1>3.3.3.3')
  const gone = watcher.apply({ type: 'delete', subnet: A.subnet })
  t.equal(text(gone), '-10.3.1.0/24 3.3.3.3', 'with the attributes that were remembered')
  t.equal(text(watcher.apply({ type: 'delete', subnet: A.subnet })), '', 'unknown')
  t.same(watcher.peers, [])
  t.end()
})

t.test('a later snapshot is compared lease by lease', (t) => {
  const watcher = new LeaseWatcher(OWN.subnet)
  t.equal(
    text(watcher.apply({ type: 'snapshot', leases: [A, B, OWN] })),
    '+10.3.1.0/24 1.1.1.1, +10.3.2.0/24 2.2.2.2, own 1',
  )
  t.equal(text(watcher.apply({ type: 'snapshot', leases: [A, B, OWN] })), 'own 1')
  const moved = lease('10.3.2.0-24', { publicIP: '4.4.4.4' })
  const added = lease('10.3.3.0-24')
  t.equal(
    text(watcher.apply({ type: 'snapshot', leases: [moved, added, OWN] })),
    '+10.3.3.0/24 1.1.1.1, ~2.2.2.2>4.4.4.4, -10.3.1.0/24 1.1.1.1, own 1',
  )
  t.equal(
    text(watcher.apply({ type: 'snapshot', leases: [] })),
    '-10.3.2.0/24 4.4.4.4, -10.3.3.0/24 1.1.1.1, own gone',
  )
  t.end()
})

t.test('the own subnet', (t) => {
  const watcher = new LeaseWatcher(OWN.subnet)
  const taken = lease('10.3.9.0-24', { publicIP: '8.8.8.8' }, '5')
  t.equal(text(watcher.apply({ type: 'put', lease: taken })), 'own 5', 'whoever holds it')
  t.equal(text(watcher.apply({ type: 'delete', subnet: OWN.subnet })), 'own gone')
  t.equal(text(watcher.apply({ type: 'snapshot', leases: [A] })), '+10.3.1.0/24 1.1.1.1, own gone')
  const dual = lease('10.3.9.0-24&fd00::-64')
  t.equal(text(watcher.apply({ type: 'put', lease: dual })), '+10.3.9.0/24,fd00::/64 1.1.1.1')
  const all = new LeaseWatcher(null)
  t.equal(text(all.apply({ type: 'snapshot', leases: [OWN] })), '+10.3.9.0/24 9.9.9.9')
  t.equal(text(all.apply({ type: 'snapshot', leases: [] })), '-10.3.9.0/24 9.9.9.9')
  t.end()
})

t.test('which attributes make a change', (t) => {
  const base = { backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: 'aa' } }
  const cases: readonly [string, Partial<LeaseAttrs>, boolean][] = [
    ['other order of fields', { ...base, backendData: { VtepMAC: 'aa', VNI: 1 } }, false],
    ['MAC', { ...base, backendData: { VNI: 1, VtepMAC: 'bb' } }, true],
    ['data gone', { backendType: 'vxlan' }, true],
    ['type', { ...base, backendType: 'udp' }, true],
    ['IPv6 address', { ...base, publicIPv6: 'fd00::1' }, true],
    ['IPv6 data', { ...base, backendV6Data: {} }, true],
  ]
  for (const [name, attrs, isChange] of cases) {
    const watcher = new LeaseWatcher(null)
    watcher.apply({ type: 'put', lease: lease('10.3.1.0-24', base) })
    const { changed } = watcher.apply({ type: 'put', lease: lease('10.3.1.0-24', attrs) })
    t.equal(changed.length, isChange ? 1 : 0, name)
  }
  t.end()
})

t.test('applying all changes always yields the store, without the own lease', (t) => {
  const keys = ['10.3.1.0-24', '10.3.2.0-24', '10.3.3.0-24', '10.3.9.0-24']
  const leases = fc
    .tuple(fc.constantFrom(...keys), fc.constantFrom('1.1.1.1', '2.2.2.2'))
    .map(([key, publicIP]) => lease(key, { publicIP }))
  const step = fc.oneof(
    fc.record({ type: fc.constant('put' as const), lease: leases }),
    fc.record({ type: fc.constant('delete' as const), lease: leases }),
    fc.record({
      type: fc.constant('snapshot' as const),
      leases: fc.uniqueArray(leases, { selector: (l) => formatSubnet(l.subnet) }),
    }),
  )
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const watcher = new LeaseWatcher(OWN.subnet)
      const store = new Map<string, string>()
      const follower = new Map<string, string>()
      for (const event of steps) {
        if (event.type === 'snapshot') store.clear()
        const puts = event.type === 'snapshot' ? event.leases : [event.lease]
        for (const l of puts) {
          if (event.type === 'delete') store.delete(formatSubnet(l.subnet))
          else store.set(formatSubnet(l.subnet), l.attrs.publicIP)
        }
        const changes = watcher.apply(
          event.type === 'delete' ? { type: 'delete', subnet: event.lease.subnet } : event,
        )
        for (const l of changes.removed) {
          if (!follower.delete(formatSubnet(l.subnet))) return false
        }
        for (const l of changes.added) follower.set(formatSubnet(l.subnet), l.attrs.publicIP)
        for (const { after: l } of changes.changed) {
          follower.set(formatSubnet(l.subnet), l.attrs.publicIP)
        }
        const want = [...store].filter(([subnet]) => subnet !== formatSubnet(OWN.subnet))
        if (JSON.stringify(want.sort()) !== JSON.stringify([...follower].sort())) return false
      }
      return true
    }),
    { numRuns: 500 },
  )
  t.pass('for all sequences tried')
  t.end()
})
