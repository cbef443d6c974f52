/**
 * The test bed: two hosts in namespaces joined by one veth pair, a pod behind a bridge on each.
 *
 *   pod 10.5.1.2 ── br0 10.5.1.1   host ── und0 172.31.0.1 ═ 172.31.0.2 und0 ── host … pod 10.5.2.2
 */
import { createLab, type Lab } from '../../control/lab/lab.js'
import { Netns } from '../../control/lab/netns.js'
import { must } from '../../control/lab/process.js'
import { type Bed, type Side, UNDERLAY_MTU } from './contender.js'

const DEVICE = 'und0'
const UNDERLAY = ['172.31.0.1', '172.31.0.2'] as const

/** What `setUnderlayOffloads` switches, in ethtool's words. */
const OFFLOADS = ['tso', 'gso', 'gro', 'tx', 'rx', 'tx-udp-segmentation'] as const

/** Remembering how earlier connections went would hand one contender's losses to the next. */
const FORGETFUL = { 'net.ipv4.tcp_no_metrics_save': 1 }

/** Builds the bed. The lab's `close()` removes it. */
export async function createBed(): Promise<{ bed: Bed; lab: Lab }> {
  const lab = await createLab({ hosts: 2 })
  try {
    return { bed: await furnish(lab), lab }
  } catch (fault) {
    await lab.close()
    throw fault
  }
}

async function furnish(lab: Lab): Promise<Bed> {
  const [a, b] = [lab.host(1), lab.host(2)]
  const mtu = `mtu ${String(UNDERLAY_MTU)}`
  await a.ip(`link add ${DEVICE} ${mtu} type veth peer name ${DEVICE} ${mtu} netns ${b.netns}`)
  const sides: Side[] = []
  for (const [i, host] of [a, b].entries()) {
    const underlay = UNDERLAY[i] ?? ''
    await host.ip(`address add ${underlay}/24 dev ${DEVICE}`, `link set ${DEVICE} up`)
    await host.sysctl(FORGETFUL)
    const pod = new Netns(`${host.netns}-bp`, host.dir)
    await pod.create()
    await pod.sysctl(FORGETFUL)
    const net = `10.5.${String(i + 1)}`
    await host.ip(
      'link add br0 type bridge forward_delay 0',
      `address add ${net}.1/24 dev br0`,
      'link set br0 up',
      `link add vpod type veth peer name eth0 netns ${pod.netns}`,
      'link set vpod master br0 up',
    )
    await pod.ip(
      `address add ${net}.2/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${net}.1`,
    )
    sides.push({
      place: host,
      device: DEVICE,
      underlay,
      subnet: `${net}.0/24`,
      base: `${net}.0`,
      gateway: `${net}.1`,
      podAddress: `${net}.2`,
      pod,
    })
  }
  const [first, second] = sides
  if (first === undefined || second === undefined) throw new Error('a bed has two sides')
  return { hosts: [first, second], dir: lab.dir }
}

/** Sets the MTU of the pods' links on both sides. */
export async function setPodMtu(bed: Bed, mtu: number): Promise<void> {
  for (const { place, pod } of bed.hosts) {
    await pod.ip(`link set eth0 mtu ${String(mtu)}`)
    await place.ip(`link set vpod mtu ${String(mtu)}`, `link set br0 mtu ${String(mtu)}`)
  }
}

/** Switches the underlay's offloads off, as on a plain network card, or back on. */
export async function setUnderlayOffloads(bed: Bed, isOn: boolean): Promise<void> {
  const state = isOn ? 'on' : 'off'
  for (const { place, device } of bed.hosts) {
    const settings = OFFLOADS.flatMap((name) => [name, state])
    await must('ip', ['netns', 'exec', place.netns, 'ethtool', '-K', device, ...settings])
  }
}

/** Bytes that a device of a host has sent so far; for a TUN, that it was given to carry. */
export async function bytesSent({ place }: Side, device: string): Promise<number> {
  const text = await must('ip', ['-n', place.netns, '-s', '-j', 'link', 'show', 'dev', device])
  const [link] = JSON.parse(text) as { stats64: { tx: { bytes: number } } }[]
  if (link === undefined) throw new Error(`no figures about ${device}`)
  return link.stats64.tx.bytes
}
