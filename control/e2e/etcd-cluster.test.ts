/**
 * @parallel A cluster of three etcd members that are killed in turn and come back (F21): leases are renewed, peers that
 * join are seen, no packet is lost, and no daemon ends.
 */
import { join } from 'node:path'
import t from 'tap'
import type { Netns } from '../lab/netns.js'
import type { ManagedProcess } from '../lab/process.js'
import { createOverlay, PREFIX, skip, until } from './overlay.js'

t.setTimeout(180_000)

const ADDRESS = '172.30.0.254'
/** A lease that is renewed every four seconds: a minute before its end. */
const SHORT_LEASE = ['--lease-ttl-seconds=64', '--subnet-lease-renew-margin=1']

class Cluster {
  private readonly place: Netns
  private readonly members: (ManagedProcess | null)[] = [null, null, null]

  constructor(place: Netns) {
    this.place = place
  }

  private client(i: number): string {
    return `http://${ADDRESS}:${12379 + 10 * i}`
  }

  private peer(i: number): string {
    return `http://127.0.0.1:${12380 + 10 * i}`
  }

  get endpoints(): string {
    return this.members.map((_m, i) => this.client(i)).join(',')
  }

  async start(i: number): Promise<void> {
    this.members[i] = await this.place.spawn(
      'etcd',
      [
        `--name=m${i}`,
        `--data-dir=${join(this.place.dir, `cluster-m${i}`)}`,
        `--listen-client-urls=${this.client(i)}`,
        `--advertise-client-urls=${this.client(i)}`,
        `--listen-peer-urls=${this.peer(i)}`,
        `--initial-advertise-peer-urls=${this.peer(i)}`,
        `--initial-cluster=${this.members.map((_m, k) => `m${k}=${this.peer(k)}`).join(',')}`,
      ],
      { name: `etcd-m${i}` },
    )
  }

  async kill(i: number): Promise<void> {
    this.members[i]?.kill('SIGKILL')
    await this.members[i]?.exited
    this.members[i] = null
  }

  /** Runs etcdctl against the members that live. */
  async ctl(...args: string[]): Promise<string> {
    const alive = this.members.flatMap((member, i) => (member === null ? [] : [this.client(i)]))
    const result = await this.place.run('etcdctl', [`--endpoints=${alive.join(',')}`, ...args])
    if (result.code !== 0) throw new Error(result.stderr)
    return result.stdout
  }

  async healthy(): Promise<void> {
    await until('the cluster is healthy', 30_000, () =>
      this.ctl('endpoint', 'health').then(
        () => true,
        () => false,
      ),
    )
  }
}

t.test('F21 three members, killed in turn', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const cluster = new Cluster(overlay.lab.switch)
  await Promise.all([0, 1, 2].map((i) => cluster.start(i)))
  await cluster.healthy()
  await cluster.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}')
  const args = [`--etcd-endpoints=${cluster.endpoints}`, ...SHORT_LEASE]
  for (const host of [h1, h2]) await overlay.start(host, args)
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const own = (await overlay.status(h1)).lease.subnet.replace('/', '-')
  const expiry = async () => Date.parse((await overlay.status(h1)).lease.expiresAt ?? '')

  for (const [i, octet] of [
    [0, 240],
    [1, 241],
    [2, 242],
  ] as const) {
    await t.test(`member ${i} dies`, async (t) => {
      const ping = p1.run('ping', ['-c1000', '-i0.005', '-W2', p2.address], { timeoutMs: 60_000 })
      const before = await expiry()
      await cluster.kill(i)
      const joins = `10.5.${octet}.0-24`
      await until('the others take writes', 20_000, () =>
        cluster.ctl('put', `${PREFIX}/subnets/${joins}`, `{"PublicIP":"172.30.0.${octet}"}`).then(
          () => true,
          () => false,
        ),
      )
      for (const host of [h1, h2]) {
        await until(`${host.name} sees who joins`, 20_000, async () =>
          (await overlay.status(host)).peers.some(({ subnet }) => subnet === `10.5.${octet}.0/24`),
        )
      }
      await until('the lease is renewed', 20_000, async () => (await expiry()) > before)
      t.match(await cluster.ctl('get', `${PREFIX}/subnets/${own}`), h1.address, 'the key is there')
      t.match((await ping).stdout, /1000 received/, 'no packet is lost')
      await cluster.start(i)
      await cluster.healthy()
    })
  }

  await t.test('nobody ended, nobody lost a peer', async (t) => {
    for (const host of [h1, h2]) {
      t.ok(overlay.daemon(host).running, host.name)
      t.equal((await overlay.ready(host, 4)).state, 'ready')
    }
  })
})
