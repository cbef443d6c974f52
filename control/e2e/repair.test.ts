/**
 * @parallel Somebody changes the kernel's state behind the daemon's back: it is put back.
 */
import t from 'tap'
import type { Host } from '../lab/host.js'
import { baseOf, createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip, until } from './overlay.js'

t.setTimeout(90_000)

/** The daemon looks every five seconds; the rest is for `ip` on a busy machine. */
const REPAIRED_MS = 8000

t.test('the kernel state', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 2)
  const [h1, h2] = [lab.host(1), lab.host(2)]
  const network = new EtcdNetwork(t, lab, 'repair')
  await network.configure({ Network: '10.5.0.0/16' })
  await network.startAll([h1, h2])
  const own = baseOf((await network.ready(h1, 1)).lease.subnet)
  const peer = baseOf((await network.ready(h2, 1)).lease.subnet)
  const whole = `mtu 1472 up; ${own}/32; 10.5.0.0/16`
  const ping = async () => (await h1.run('ping', ['-c1', '-W5', peer])).code

  const damages: Readonly<Record<string, readonly string[]>> = {
    'F36 route, address and MTU changed by hand are put back': [
      'route del 10.5.0.0/16 dev flannel0',
      `address del ${own}/32 dev flannel0`,
      'address add 10.5.200.1/24 dev flannel0',
      'link set flannel0 mtu 1300',
    ],
    'F36 a link set down by hand comes up again, with its route': ['link set flannel0 down'],
  }
  for (const [name, commands] of Object.entries(damages)) {
    await t.test(name, async (t) => {
      await h1.ip(...commands)
      const took = await until(
        'it is whole',
        PATIENCE_MS,
        async () => (await stateOf(h1)) === whole,
      )
      t.comment(`repaired after ${took.toFixed(0)} ms`)
      t.ok(took < REPAIRED_MS, `${took.toFixed(0)} ms`)
      t.equal(await ping(), 0)
      t.equal((await network.status(h1)).state, 'ready')
    })
  }

  await t.test('F36 the device deleted by hand is made anew', async (t) => {
    const before = await network.status(h1)
    await h1.ip('link del flannel0')
    const took = await until('it is whole', PATIENCE_MS, async () => (await stateOf(h1)) === whole)
    t.comment(`repaired after ${took.toFixed(0)} ms`)
    t.ok(took < REPAIRED_MS, `${took.toFixed(0)} ms`)
    t.equal(await ping(), 0)
    const { pid, state, lease, peers, counters } = await network.status(h1)
    t.match({ pid, state, lease }, { pid: before.pid, state: 'ready', lease: before.lease })
    t.equal(peers.length, 1)
    const read = before.counters.egress.read
    t.ok(read > 0 && counters.egress.read > read, 'the counters go on')
  })
})

/** What the kernel holds for the device: MTU and flag, IPv4 addresses, routes. */
async function stateOf(host: Host): Promise<string> {
  const read = async (...args: string[]) => {
    const { code, stdout } = await host.run('ip', ['-json', ...args, 'dev', 'flannel0'])
    return code === 0 ? (JSON.parse(stdout) as Row[]) : []
  }
  const link = (await read('link', 'show'))[0]
  const addresses = (await read('-4', 'address', 'show'))[0]?.addr_info ?? []
  const routes = await read('-4', 'route', 'show')
  const flag = link?.flags?.includes('UP') === true ? 'up' : 'down'
  return [
    `mtu ${String(link?.mtu)} ${flag}`,
    addresses.map((a) => `${a.local}/${a.prefixlen}`).join(' '),
    routes.map((route) => String(route.dst)).join(' '),
  ].join('; ')
}

/** The members of iproute2's answers that are read here. */
interface Row {
  readonly mtu?: number
  readonly flags?: readonly string[]
  readonly addr_info?: readonly { readonly local: string; readonly prefixlen: number }[]
  readonly dst?: string
}
