/**
 * @parallel CNI on the overlay: the plugins `bridge` and `host-local` themselves, told what flannel's CNI plugin would
 * tell them by our subnet.env. Pods of two hosts reach each other, and what DEL removes is gone.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { Netns } from '../lab/netns.js'
import { tcpTransfer } from '../lab/transfers.js'
import { createOverlay, skip } from './overlay.js'

t.setTimeout(90_000)

/** Where Debian's containernetworking-plugins, and where others put them. */
const PLUGINS = ['/usr/lib/cni', '/opt/cni/bin'].find((dir) => existsSync(join(dir, 'bridge')))

const why = skip || (PLUGINS === undefined ? 'needs the CNI plugins' : false)

/** What flannel's plugin makes of subnet.env for its delegate, with the options of its manifest. */
function delegateOf(host: Host): object {
  const env = new Map(
    readFileSync(host.subnetFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split('=') as [string, string]),
  )
  const both = (name: string) =>
    [env.get(`FLANNEL_${name}`), env.get(`FLANNEL_IPV6_${name}`)].filter(
      (text) => text !== undefined,
    )
  const subnets = both('SUBNET').map((text) =>
    text.replace(/(\.|:)1\//, (_all, end) => `${end === '.' ? '.0' : ':'}/`),
  )
  return {
    cniVersion: '0.3.1',
    name: 'cbr0',
    type: 'bridge',
    mtu: Number(env.get('FLANNEL_MTU')),
    ipMasq: env.get('FLANNEL_IPMASQ') !== 'true',
    isGateway: true,
    isDefaultGateway: true,
    hairpinMode: true,
    ipam: {
      type: 'host-local',
      ranges: subnets.map((subnet) => [{ subnet }]),
      routes: both('NETWORK').map((dst) => ({ dst })),
      dataDir: join(host.dir, 'cni'),
    },
  }
}

/** A pod whose network the plugins make. */
class CniPod extends Netns {
  addresses: string[] = []
  private readonly host: Host

  constructor(host: Host, number: number) {
    super(`${host.netns}-c${number}`, join(host.dir, `cni-pod${number}`))
    this.host = host
  }

  /** Runs the plugin `bridge` on the host. @returns what it printed */
  async plugin(command: 'ADD' | 'DEL'): Promise<string> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: this.netns,
      CNI_NETNS: `/run/netns/${this.netns}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: PLUGINS ?? '',
    }
    const input = JSON.stringify(delegateOf(this.host))
    const { code, stdout, stderr } = await this.host.run(join(PLUGINS ?? '', 'bridge'), [], {
      env,
      input,
    })
    if (code !== 0) throw new Error(`${command}: ${stdout}${stderr}`)
    return stdout
  }

  async add(): Promise<void> {
    await this.create()
    await this.skipDuplicateDetection()
    const { ips } = JSON.parse(await this.plugin('ADD')) as { ips: { address: string }[] }
    this.addresses = ips.map(({ address }) => address.replace(/\/.*/, ''))
  }
}

t.test('pods by CNI', { skip: why }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    daemons: 0,
    store: 'file',
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Type: 'vxlan', Underlay: 'ipv4' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  for (const host of [h1, h2]) {
    await host.skipDuplicateDetection()
    await overlay.start(host, ['--ip-masq'])
  }
  for (const host of [h1, h2]) await overlay.ready(host, 1)
  const [p1, p2, p3] = [new CniPod(h1, 1), new CniPod(h2, 1), new CniPod(h2, 2)]
  for (const pod of [p1, p2, p3]) await pod.add()

  await t.test('bridge, addresses and MTU are of our subnet', async (t) => {
    const { gateway, gateway6 = '', prefixLen, mtu } = await h2.subnetEnv()
    const bridge = (await h2.run('ip', ['address', 'show', 'cni0'])).stdout
    t.match(bridge, `inet ${gateway}/${prefixLen}`)
    t.match(bridge, `inet6 ${gateway6}/64`)
    t.equal(p2.addresses.length, 2)
    t.match(p2.addresses[0], gateway.replace(/1$/, ''))
    t.match((await p2.run('ip', ['link', 'show', 'eth0'])).stdout, `mtu ${mtu}`)
  })

  await t.test('they talk, to their neighbour and to the other host', async (t) => {
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
      [p2, p3],
    ] as const) {
      for (const address of to.addresses) {
        const { code, stdout } = await from.run('ping', ['-c2', '-i0.2', '-W2', address])
        t.equal(code, 0, `${address}: ${stdout}`)
        const { intact, received } = await tcpTransfer(from, to, address, { bytes: 10e6 })
        t.ok(intact && received.bytes === 10e6, `${address}: the same hash`)
      }
    }
  })

  await t.test('DEL, and DEL again', async (t) => {
    const held = () =>
      readdirSync(join(h2.dir, 'cni/cbr0')).filter((name) => /^[\da-f.:]+$/.test(name))
    t.equal(held().length, 4)
    await p3.plugin('DEL')
    await p3.plugin('DEL')
    t.equal(held().length, 2)
    t.notMatch((await p3.run('ip', ['link'])).stdout, 'eth0')
    t.equal((await p1.run('ping', ['-c1', '-W2', p2.addresses[0] ?? ''])).code, 0, 'others stay')
  })
})
