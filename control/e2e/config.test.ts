/**
 * @parallel The network configuration in etcd: written late, written wrong, written right; its defaults,
 * and a backend that this build cannot run.
 */
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { parsePrefix4, size4 } from '../prefix.js'
import { createEtcdLab, EtcdNetwork, PATIENCE_MS } from './etcd-network.js'
import { skip, until } from './overlay.js'

t.setTimeout(90_000)

const FETCH_FAULT = /Couldn't fetch network config: /g

/** Every way in which flannel refuses a configuration, and what our message must name. */
const INVALID: readonly (readonly [config: object | string, says: RegExp])[] = [
  ['', /not valid JSON/],
  ['{"Network":"10.5.0.0/16"', /not valid JSON/],
  ['["10.5.0.0/16"]', /no object/],
  [{ Backend: { Type: 'udp' } }, /Network is missing/],
  [{ Network: '10.5.0.0' }, /Network is "10\.5\.0\.0"/],
  [{ Network: '10.5.0.0/33' }, /Network is "10\.5\.0\.0\/33"/],
  [{ Network: '0.0.0.0/0' }, /Network is "0\.0\.0\.0\/0"/],
  [{ Network: '10.5.0.0/16', SubnetLen: 31 }, /SubnetLen is 31.*18 to 30/],
  [{ Network: '10.5.0.0/16', SubnetLen: 17 }, /SubnetLen is 17.*18 to 30/],
  [{ Network: '10.5.0.0/16', SubnetLen: '24' }, /SubnetLen is "24"/],
  [{ Network: '10.5.0.0/29' }, /10\.5\.0\.0\/29 is too small/],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.6.1.0' }, /SubnetMin is "10\.6\.1\.0", outside/],
  [{ Network: '10.5.0.0/16', SubnetMax: '10.4.9.0' }, /SubnetMax is "10\.4\.9\.0", outside/],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.5.1.1' }, /SubnetMin is "10\.5\.1\.1", not the first/],
  [{ Network: '10.5.0.0/16', SubnetMax: '10.5.9.1' }, /SubnetMax is "10\.5\.9\.1", not the first/],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.5.9.0', SubnetMax: '10.5.2.0' }, /above SubnetMax/],
  [{ Network: '10.5.0.0/16', EnableIPv6: true }, /IPv6Network is missing/],
  [ipv6({ IPv6Network: 'fd00::/125' }), /fd00::\/125 is too small/],
  [ipv6({ IPv6SubnetLen: 127 }), /IPv6SubnetLen is 127/],
  [ipv6({ IPv6SubnetLen: 49 }), /IPv6SubnetLen is 49/],
  [ipv6({ IPv6SubnetMin: 'fd01::' }), /IPv6SubnetMin is "fd01::", outside/],
  [ipv6({ IPv6SubnetMax: 'fd00:0:0:9::1' }), /IPv6SubnetMax is .*not the first/],
  [{ Network: '10.5.0.0/16', EnableIPv4: false }, /EnableIPv4 is false/],
  [{ Network: '10.5.0.0/16', Backend: 'udp' }, /Backend is "udp"/],
]

function ipv6(members: object): object {
  return { Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/48', ...members }
}

t.test('the network configuration', { skip }, async (t) => {
  const lab = await createEtcdLab(t, 4)
  const h1 = lab.host(1)

  await t.test('F1 config retry: subnet.env within 2 s of the configuration', async (t) => {
    const network = new EtcdNetwork(t, lab, 'f1')
    const daemon = await network.start(h1)
    await daemon.waitFor(/Couldn't fetch network config: nobody has written it yet/, PATIENCE_MS)
    await sleep(1500)
    t.equal(daemon.stderr().match(FETCH_FAULT)?.length, 1, 'the same reason is told once')
    t.equal(daemon.stdout(), '')
    t.notOk(existsSync(network.subnetFile(h1)))
    t.equal((await network.records()).size, 0, 'no lease yet')
    await network.configure({ Network: '10.5.0.0/16' })
    const took = await until('subnet.env is there', PATIENCE_MS, () =>
      existsSync(network.subnetFile(h1)),
    )
    t.comment(`subnet.env after ${took.toFixed(0)} ms`)
    t.ok(took < 2000, `${took.toFixed(0)} ms`)
  })

  await t.test('F2 each invalid configuration keeps the daemon waiting', async (t) => {
    // Each host runs through a part of the list, with a daemon and a prefix of its own.
    const runs = lab.hosts.map(async (host, n) => {
      const network = new EtcdNetwork(t, lab, `f2-${host.name}`)
      const daemon = await network.start(host)
      await daemon.waitFor(/nobody has written it yet/, PATIENCE_MS)
      for (const [config, says] of INVALID.filter((_case, i) => i % lab.hosts.length === n)) {
        const said = daemon.stderr().length
        await network.configure(config)
        await until(`told: ${says.source}`, PATIENCE_MS, () =>
          says.test(daemon.stderr().slice(said)),
        )
        const line = daemon.stderr().slice(said).split('\n')[0]
        t.match(line, /^E.*Couldn't fetch network config: .*(write|use|exchange|leave)/, 'remedy')
        t.equal((await network.records()).size, 0, 'no lease key')
      }
      t.ok(daemon.running)
      t.notOk(existsSync(network.subnetFile(host)))
      await network.configure({ Network: '10.5.0.0/16', Unknown: [1], backend: { tYPE: 'UDP' } })
      const status = await network.ready(host)
      t.same([...(await network.records()).keys()], [status.lease.subnet], 'then a valid one works')
    })
    await Promise.all(runs)
  })

  await t.test('F3 defaults of SubnetLen, SubnetMin and SubnetMax', async (t) => {
    const cases = [
      { given: '10.5.0.0/16', is: '10.5.0.0/16', len: 24, min: '10.5.1.0', max: '10.5.100.0' },
      { given: '10.6.4.0/22', is: '10.6.4.0/22', len: 24, min: '10.6.5.0', max: '10.6.7.0' },
      { given: '10.7.8.0/23', is: '10.7.8.0/23', len: 25, min: '10.7.8.128', max: '10.7.9.128' },
      { given: '10.8.9.17/28', is: '10.8.9.16/28', len: 30, min: '10.8.9.20', max: '10.8.9.28' },
    ]
    await Promise.all(
      cases.map(async ({ given, is, len, min, max }, n) => {
        const host = lab.host(n + 1)
        const network = new EtcdNetwork(t, lab, `f3-${host.name}`)
        await network.configure({ Network: given })
        await network.start(host)
        const { lease } = await network.ready(host)
        const subnet = parsePrefix4(lease.subnet)!
        t.equal(subnet.len, len, given)
        t.ok(subnet.addr >= bits(min) && subnet.addr <= bits(max), `${given}: ${lease.subnet}`)
        t.equal(subnet.addr % size4(len), 0)
        const env = envOf(network, host)
        t.match(env, `FLANNEL_NETWORK=${is}\n`)
        t.match(env, new RegExp(`^FLANNEL_SUBNET=[\\d.]+/${len}$`, 'm'))
      }),
    )
  })

  await t.test(
    'F30 a backend that is not built yet or unknown: exit 1 with a message',
    async (t) => {
      const cases = [
        [{ Type: 'wireguard' }, /^F.*Backend\.Type: "wireguard" is not built yet; use udp/m],
        [{ Type: 'WireGuard' }, /^F.*"wireguard" is not built yet/m],
        [{ Type: 'carrier-pigeon' }, /^F.*"carrier-pigeon" is an unknown backend type/m],
        [{}, /^F.*"" is an unknown backend type/m],
      ] as const
      await Promise.all(
        cases.map(async ([backend, says], n) => {
          const host = lab.host(n + 1)
          const network = new EtcdNetwork(t, lab, `f30-${host.name}`)
          await network.configure({ Network: '10.5.0.0/16', Backend: backend })
          const daemon = await network.start(host)
          t.same(await daemon.exited, { code: 1, signal: null })
          t.match(daemon.stderr(), says)
          t.equal((await network.records()).size, 0)
        }),
      )
    },
  )
})

function bits(address: string): number {
  return parsePrefix4(`${address}/32`)!.addr
}

function envOf(network: EtcdNetwork, host: Host): string {
  return readFileSync(network.subnetFile(host), 'utf8')
}
