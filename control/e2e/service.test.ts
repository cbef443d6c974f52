/**
 * @parallel Addresses that are translated on the way: a service's, as kube-proxy makes them (DNAT in PREROUTING and
 * OUTPUT), and a host's own for the network outside. All lead to a pod on the other host, by TCP with hashes,
 * with offloads and without, masqueraded and not.
 */
import t from 'tap'
import { OFFLOADS } from '../../dataplane/index.js'
import type { Host } from '../lab/host.js'
import { must } from '../lab/process.js'
import { tcpTransfer } from '../lab/transfers.js'
import { assertAccounted, createOverlay, skip } from './overlay.js'

t.setTimeout(180_000)

const SERVICE = '10.96.0.10'
const BYTES = 10e6
const ALL_OFF = OFFLOADS.map((name) => `--${name}=false`)

/** Whatever goes to the service, or from outside to this host, goes to a pod. */
async function translate(host: Host, outside: string, pod: string): Promise<void> {
  const rules = `table ip service
delete table ip service
table ip service {
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr ${SERVICE} dnat to ${pod}
    ip saddr ${outside} ip daddr ${host.address} meta l4proto tcp dnat to ${pod}
  }
  chain output {
    type nat hook output priority -100
    ip daddr ${SERVICE} dnat to ${pod}
  }
}
`
  await must('ip', ['netns', 'exec', host.netns, 'nft', '-f', '-'], { input: rules })
}

for (const backend of ['udp', 'vxlan']) {
  t.test(`a service on the other host, ${backend}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      daemons: 0,
      store: 'file',
      network: { EnableNFTables: true },
      backend: { Type: backend },
    })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const outside = overlay.lab.switch
    const outsideAddress = '172.30.0.254'
    await h1.ip(`route add 10.96.0.0/16 via ${outsideAddress}`)
    for (const host of [h1, h2]) await overlay.start(host, ['--ip-masq'])
    for (const host of [h1, h2]) await overlay.ready(host, 1)
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    await translate(h1, outsideAddress, p2.address)

    const plain = [
      ['offloads on', []],
      ['offloads off', ALL_OFF],
    ] as const
    for (const [name, args] of [
      ['offloads on, masqueraded', ['--ip-masq']],
      ['offloads off, masqueraded', ['--ip-masq', ...ALL_OFF]],
      ...(backend === 'udp' ? plain : []),
    ] as const) {
      await t.test(name, async (t) => {
        for (const host of [h1, h2]) {
          await overlay.daemon(host).stop()
          await overlay.start(host, args)
        }
        for (const host of [h1, h2]) await overlay.ready(host, 1)
        const isMasqueraded = args.some((arg) => arg === '--ip-masq')
        const ways = [
          ['from a pod', p1, SERVICE],
          ['from the host', h1, SERVICE],
          // The answer would not come back the way it went.
          ...(isMasqueraded ? ([['from outside', outside, h1.address]] as const) : []),
        ] as const
        for (const [way, from, through] of ways) {
          const { intact, received } = await tcpTransfer(from, p2, p2.address, {
            bytes: BYTES,
            through,
          })
          t.ok(intact && received.bytes === BYTES, `${way}: the same hash`)
        }
        for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
      })
    }
  })
}
