/**
 * The contenders. Each joins 10.5.1.0/24 on the first host with 10.5.2.0/24 on the second.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HEDDLED } from '../../control/lab/host.js'
import type { ManagedProcess } from '../../control/lab/process.js'
import { readStatus } from '../../control/status.js'
import type { Contender, Side } from './contender.js'
import { hasProgram } from './programs.js'

const NETWORK = '10.5.0.0/16'
const UNDERLAY_MTU = 1500

async function stopAll(processes: readonly ManagedProcess[]): Promise<void> {
  await Promise.all(processes.map((p) => p.stop()))
}

/** Waits until a condition holds, 10 s at most. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`${what}: not within 10 s`)
}

const hasDevice = (side: Side, device: string): Promise<boolean> =>
  side.place.run('ip', ['link', 'show', device]).then((r) => r.code === 0)

/** Heddle's own daemon over a store of fixed leases. */
export function heddle(name: string, flags: readonly string[]): Contender {
  return {
    name,
    note: 'user space, this project',
    missing: () => null,
    async start(bed) {
      const daemons: ManagedProcess[] = []
      for (const [i, side] of bed.hosts.entries()) {
        const dir = join(side.place.dir, 'store')
        mkdirSync(join(dir, 'subnets'), { recursive: true })
        writeFileSync(join(dir, 'config'), JSON.stringify({ Network: NETWORK }))
        bed.hosts.forEach((other) => {
          writeFileSync(
            join(dir, 'subnets', other.subnet.replace('/', '-')),
            JSON.stringify({ PublicIP: other.underlay, PublicIPv6: null }),
          )
        })
        const args = [
          HEDDLED,
          `--store=file:${dir}`,
          `--iface=${side.device}`,
          `--subnet-file=${join(side.place.dir, 'bench.env')}`,
          ...flags,
        ]
        daemons.push(
          await side.place.spawn(process.execPath, args, { name: `heddled-${String(i)}` }),
        )
      }
      await until('heddled is ready', async () => {
        const all = await Promise.all(
          bed.hosts.map((side) =>
            readStatus(join(side.place.dir, 'bench.env')).then(
              (s) => s.state === 'ready' && s.routes === 1,
              () => false,
            ),
          ),
        )
        return all.every(Boolean)
      })
      return {
        addresses: [bed.hosts[0].base, bed.hosts[1].base],
        mtu: UNDERLAY_MTU - 28,
        daemons,
        stop: () => stopAll(daemons),
      }
    },
  }
}

/** socat between a TUN and UDP: one packet per call, as flannel's own proxy works. */
export const socat: Contender = {
  name: 'socat',
  note: 'one packet per system call, a stand-in for flannel’s proxy',
  missing: () => (hasProgram('socat') ? null : 'socat is not installed'),
  async start(bed) {
    const daemons: ManagedProcess[] = []
    const mtu = UNDERLAY_MTU - 28
    for (const [i, side] of bed.hosts.entries()) {
      const other = bed.hosts[1 - i] ?? side
      daemons.push(
        await side.place.spawn('socat', [
          '-b',
          '65535',
          'TUN,tun-name=sct0,iff-no-pi,iff-up',
          `UDP4-DATAGRAM:${other.underlay}:9999,bind=${side.underlay}:9999`,
        ]),
      )
      await until('socat has its device', () => hasDevice(side, 'sct0'))
      await side.place.ip(
        `link set sct0 mtu ${String(mtu)} up`,
        `address add ${side.base}/32 dev sct0`,
        `route add ${other.subnet} dev sct0`,
      )
    }
    return {
      addresses: [bed.hosts[0].base, bed.hosts[1].base],
      mtu,
      daemons,
      stop: () => stopAll(daemons),
    }
  },
}

/** The kernel's VXLAN device, programmed as flannel programs it. */
export const kernelVxlan: Contender = {
  name: 'kernel VXLAN',
  note: 'in the kernel, as flannel’s vxlan backend',
  missing: () => null,
  async start(bed) {
    const mac = (i: number): string => `02:00:00:00:00:0${String(i + 1)}`
    for (const [i, side] of bed.hosts.entries()) {
      const other = bed.hosts[1 - i] ?? side
      await side.place.ip(
        `link add flannel.1 address ${mac(i)} mtu ${String(UNDERLAY_MTU - 50)} type vxlan id 1 dev ${side.device} local ${side.underlay} dstport 8472 nolearning`,
        `address add ${side.base}/32 dev flannel.1`,
        'link set flannel.1 up',
        `neigh replace ${other.base} lladdr ${mac(1 - i)} dev flannel.1 nud permanent`,
        `route add ${other.subnet} via ${other.base} dev flannel.1 onlink`,
      )
      await side.place.run('bridge', [
        'fdb',
        'replace',
        mac(1 - i),
        'dev',
        'flannel.1',
        'dst',
        other.underlay,
        'self',
        'permanent',
      ])
    }
    return {
      addresses: [bed.hosts[0].base, bed.hosts[1].base],
      mtu: UNDERLAY_MTU - 50,
      daemons: [],
      stop: async () => {
        for (const side of bed.hosts) await side.place.ip('link del flannel.1')
      },
    }
  },
}

/** No overlay: routes over the bare link. */
export const bareLink: Contender = {
  name: 'bare link',
  note: 'no overlay at all: the ceiling',
  missing: () => null,
  async start(bed) {
    for (const [i, side] of bed.hosts.entries()) {
      const other = bed.hosts[1 - i] ?? side
      await side.place.ip(`route add ${other.subnet} via ${other.underlay} dev ${side.device}`)
    }
    return {
      addresses: [bed.hosts[0].underlay, bed.hosts[1].underlay],
      mtu: UNDERLAY_MTU,
      daemons: [],
      stop: async () => {
        for (const [i, side] of bed.hosts.entries()) {
          await side.place.ip(`route del ${(bed.hosts[1 - i] ?? side).subnet}`)
        }
      },
    }
  },
}
