/**
 * @parallel From flanneld to heddled and back on one host: its VXLAN device is taken over with the MAC address
 * that peers know, and can be made again afterwards. Devices of others stay, and are named.
 */
import t from 'tap'
import { KERNEL_MAC, programDevice, programKernel, publishedMac } from './kernel-vxlan.js'
import { createOverlay, links, skip, until } from './overlay.js'

t.setTimeout(120_000)

const VXLAN = { Type: 'vxlan' }

t.test('a host changes from flannel’s device to heddled and back', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'etcd', backend: VXLAN })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const p1 = await overlay.addPod(h1)
  const p2 = await programKernel(overlay, h2, h1)
  await until('the peer is known', 5000, async () => (await overlay.status(h1)).peers.length === 1)
  const ping = async () => (await p1.run('ping', ['-c2', '-i0.2', '-W2', p2.address])).code
  t.equal(await ping(), 0, 'the kernel’s device')

  const daemon = await overlay.start(h2)
  await overlay.ready(h2, 1)
  t.match(daemon.stderr(), /took over from the kernel's VXLAN device flannel\.1/)
  t.equal(await publishedMac(overlay, h2), KERNEL_MAC, 'the MAC that peers know')
  const { stdout } = await h2.run('ip', ['-json', '-details', 'link', 'show', 'flannel.1'])
  t.match(JSON.parse(stdout), [{ linkinfo: { info_kind: 'tun' } }])
  t.equal(await ping(), 0, 'heddled')

  await daemon.stop()
  t.notOk((await links(h2)).includes('flannel.1'), 'nothing is left')
  await programDevice(overlay, h2, h1)
  t.equal(await ping(), 0, 'the kernel’s device again')
})

t.test('what is in the way is named', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 1, daemons: 0, store: 'file', backend: VXLAN })
  const host = overlay.host(1)
  const device = (name: string, id: number, more = 'dstport 8472') =>
    `link add ${name} type vxlan id ${id} dev eth0 local ${host.address} ${more}`
  const cases: readonly (readonly [name: string, command: string, device: string, says: RegExp])[] =
    [
      [
        'another VNI',
        device('flannel.1', 7),
        'flannel.1',
        /flannel\.1 is there already, and its VNI is 7, not 1; .* ip link del flannel\.1/,
      ],
      [
        'another port',
        device('flannel.1', 1, 'dstport 4789'),
        'flannel.1',
        /its port is 4789, not 8472/,
      ],
      [
        'a MAC of no lease',
        device('flannel.1', 1),
        'flannel.1',
        /its MAC address .* is not the one of this host's lease/,
      ],
      ['another kind', 'link add flannel.1 type bridge', 'flannel.1', /it is a bridge device/],
      [
        'the port',
        device('other', 9),
        'other',
        /UDP port 8472 is held by the kernel's VXLAN device other/,
      ],
    ]
  for (const [name, command, left, says] of cases) {
    await host.ip(command)
    const daemon = await overlay.start(host)
    t.same(await daemon.exited, { code: 1, signal: null }, name)
    t.match(daemon.stderr(), says, name)
    t.ok((await links(host)).includes(left), `${name}: it stays`)
    await host.ip(`link del ${left}`)
  }
})
