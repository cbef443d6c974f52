/**
 * Which announcements of the kernel are echoes of our own changes: what a real `ip monitor` says in a network
 * namespace of this test's own (the file starts itself again inside).
 */
import { ip } from '../../dataplane/netns-fixture.js'
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { carryOut } from './apply.js'
import type { Change } from './difference.js'
import { Echoes } from './echoes.js'

ip('link set lo up')
ip('link add flannel.1 type vxlan id 1 dstport 8472 local 127.0.0.1 dev lo nolearning')
ip('link set flannel.1 addrgenmode none')
ip('link set flannel.1 up')

const monitor = spawn('stdbuf', '-oL ip -o monitor link address route neigh'.split(' '))
t.teardown(() => monitor.kill())
let said = ''
monitor.stdout.on('data', (text: Buffer) => (said += text.toString()))

/** What is said meanwhile, once it has been quiet for a while. */
async function saidDuring(work: () => Promise<void> | void): Promise<string[]> {
  await sleep(200)
  said = ''
  await work()
  for (let before = -1; before !== said.length;) {
    before = said.length
    await sleep(200)
  }
  return said.split('\n').filter((line) => line !== '')
}

const device = 'flannel.1'
const peer = (n: number, host: string, destination: string): Change[] => [
  {
    kind: 'neighbour-set',
    neighbour: { device, address: destination.replace(/\/.*/, ''), mac: `0e:00:00:00:00:0${n}` },
  },
  { kind: 'forwarding-set', entry: { device, mac: `0e:00:00:00:00:0${n}`, host } },
  {
    kind: 'route-replace',
    route: { device, destination, via: destination.replace(/\/.*/, ''), isOnlink: true },
  },
]
const added = [
  ...peer(1, '172.30.0.12', '10.5.2.0/24'),
  ...peer(2, '172.30.0.13', '10.5.3.7/32'),
  ...peer(3, '172.30.0.14', 'fd05:0:0:3::/64'),
]
const changed = peer(1, '172.30.0.99', '10.5.2.0/24')
const removed = added.flatMap((change): Change[] => {
  switch (change.kind) {
    case 'neighbour-set':
      return [{ ...change, kind: 'neighbour-remove' }]
    case 'route-replace':
      return [{ ...change, kind: 'route-remove' }]
    case 'forwarding-set': {
      const host = change.entry.host === '172.30.0.12' ? '172.30.0.99' : change.entry.host
      return [{ kind: 'forwarding-remove', entry: { ...change.entry, host } }]
    }
    default:
      return []
  }
})

t.test('every line about our own changes is one', async (t) => {
  const echoes = new Echoes()
  for (const [what, changes] of Object.entries({ added, changed, removed })) {
    const lines = await saidDuring(async () => {
      echoes.await(changes, 0)
      await carryOut(changes)
    })
    t.ok(lines.length >= 1, `${what}: ${lines.length} lines`)
    t.same(
      lines.filter((line) => !echoes.has(line, 100)),
      [],
      what,
    )
    t.notOk(
      lines.some((line) => echoes.has(line, 10_000)),
      'not for ever',
    )
  }
})

t.test('what somebody else does to the same entries is none', async (t) => {
  const echoes = new Echoes()
  echoes.await(added, 0)
  await carryOut(added)
  const lines = await saidDuring(() => {
    ip('neigh del 10.5.2.0 dev flannel.1')
    ip('route del 10.5.2.0/24')
    ip('route del 10.5.3.7/32')
    ip('fdb del 0e:00:00:00:00:01 dev flannel.1 dst 172.30.0.12 self', 'bridge')
    ip('link set flannel.1 mtu 1400')
  })
  const deleted = lines.filter((line) => /^Deleted |mtu 1400/.test(line))
  t.ok(deleted.length >= 5, deleted.join('\n'))
  t.same(
    deleted.filter((line) => echoes.has(line, 100)),
    [],
  )
})

t.test('what is awaited no more takes no room', async (t) => {
  const echoes = new Echoes()
  for (let n = 0; n < 5000; n++) {
    echoes.await(peer(1, `10.${n >> 8}.${n & 255}.1`, '10.5.2.0/24'), n * 1000)
  }
  t.ok(echoes.size < 20, `${echoes.size} awaited`)
})
