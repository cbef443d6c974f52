/**
 * The test bed: two hosts in namespaces joined by one veth pair, a pod behind a bridge on each.
 */
import { createLab, type Lab } from '../../control/lab/lab.js'
import { Netns } from '../../control/lab/netns.js'
import type { Bed, Side } from './contender.js'

const DEVICE = 'und0'
const UNDERLAY = ['172.31.0.1', '172.31.0.2'] as const

/** Builds the bed. @param mtu  MTU of the underlay, bytes */
export async function createBed(mtu: number): Promise<{ bed: Bed; lab: Lab }> {
  const lab = await createLab({ hosts: 2 })
  const [a, b] = [lab.host(1), lab.host(2)]
  await a.ip(
    `link add ${DEVICE} mtu ${String(mtu)} type veth peer name ${DEVICE} mtu ${String(mtu)} netns ${b.netns}`,
  )
  const sides: Side[] = []
  for (const [i, host] of [a, b].entries()) {
    const underlay = UNDERLAY[i] ?? ''
    await host.ip(`address add ${underlay}/24 dev ${DEVICE}`, `link set ${DEVICE} up`)
    const pod = new Netns(`${host.netns}-bp`, host.dir)
    await pod.create()
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
  return { bed: { hosts: [first, second] }, lab }
}

/** Sets the MTU of the pods' links on both sides. */
export async function setPodMtu(bed: Bed, mtu: number): Promise<void> {
  for (const { place, pod } of bed.hosts) {
    await pod.ip(`link set eth0 mtu ${String(mtu)}`)
    await place.ip(`link set vpod mtu ${String(mtu)}`, `link set br0 mtu ${String(mtu)}`)
  }
}

/** Switches the underlay's offloads, as on a plain network card, or back on. */
export async function setUnderlayOffloads(bed: Bed, isOn: boolean): Promise<void> {
  const state = isOn ? 'on' : 'off'
  for (const { place, device } of bed.hosts) {
    await place.run('ethtool', [
      '-K',
      device,
      'tso',
      state,
      'gso',
      state,
      'gro',
      state,
      'tx',
      state,
      'rx',
      state,
      'tx-udp-segmentation',
      state,
    ])
  }
}
