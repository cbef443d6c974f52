/**
 * @serial A peer whose host answers every datagram with ICMP (or ICMPv6) port unreachable, under load: its errors
 * stay its own. Other peers lose no packet, and the daemon does not spin.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Host } from '../lab/host.js'
import { udpTransfer } from '../lab/transfers.js'
import { assertAccounted, counted, createOverlay, overlayAddress, skip } from './overlay.js'

t.setTimeout(60_000)

/** A program that sends datagrams to an address, ten each millisecond. */
const FLOOD = `
  const [to, count] = process.argv.slice(1)
  const socket = require('node:dgram').createSocket('udp4')
  let sent = 0
  let done = 0
  const onSent = () => {
    if (++done === Number(count)) socket.close()
  }
  const timer = setInterval(() => {
    for (let i = 0; i < 10; i++) socket.send('x'.repeat(500), 9, to, onSent)
    sent += 10
    if (sent >= Number(count)) clearInterval(timer)
  }, 1)`

/** Clock ticks (10 ms) that a process has used. */
function ticks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return Number(fields[11]) + Number(fields[12])
}

/** How many ICMP or ICMPv6 destination unreachables the kernel of a host has sent. */
async function unreachables(host: Host, underlay: 'ipv4' | 'ipv6'): Promise<number> {
  if (underlay === 'ipv6') {
    const { stdout } = await host.run('cat', ['/proc/net/snmp6'])
    return Number(/^Icmp6OutDestUnreachs\s+(\d+)/m.exec(stdout)?.[1])
  }
  const { stdout } = await host.run('cat', ['/proc/net/snmp'])
  const [names = [], values = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith('Icmp:'))
    .map((line) => line.split(' '))
  return Number(values[names.indexOf('OutDestUnreachs')])
}

for (const underlay of ['ipv4', 'ipv6'] as const) {
  t.test(`errors about a dead peer cost the others nothing, ${underlay}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 3,
      store: 'file',
      ipv6: underlay === 'ipv6',
      backend: { Underlay: underlay },
    })
    const [h1, h2, h3] = [1, 2, 3].map((n) => overlay.host(n)) as [Host, Host, Host]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const dead = (await overlayAddress(h3)).replace(/0$/, '9')
    // Killed, it leaves its lease; its host answers each datagram, at no limit.
    await h3.sysctl({ 'net.ipv4.icmp_ratelimit': 0, 'net.ipv4.icmp_msgs_per_sec': 1_000_000 })
    await h3.sysctl({ 'net.ipv6.icmp.ratelimit': 0 })
    await h3.sysctl({ 'net.ipv4.icmp_msgs_burst': 1_000_000 })
    overlay.daemon(h3).kill('SIGKILL')
    await overlay.daemon(h3).exited
    // So long a queue outlasts any pause of an engine that has to share its core.
    for (const host of [h1, h2]) {
      await host.ip('link set flannel0 txqueuelen 20000')
    }

    const before = await overlay.settled(h1)
    const answered = await unreachables(h3, underlay)
    const load = udpTransfer(p1, p2, p2.address, { count: 10_000, size: 1000, perSecond: 5000 })
    const flood = await p1.run(process.execPath, ['-e', FLOOD, dead, '10000'])
    t.equal(flood.code, 0, flood.stderr)
    const { received } = await load
    t.match(received, { received: 10_000, lost: 0, reordered: 0, damaged: 0 })
    const moved = counted(before, await overlay.settled(h1))
    const errors = (await unreachables(h3, underlay)) - answered
    // A run crosses a veth in one piece and is answered once.
    t.ok(errors > 1000, `${errors} port unreachables came back`)
    t.ok((moved['egress.forward'] ?? 0) >= 20_000, `all were sent: ${JSON.stringify(moved)}`)
    t.same(
      // The kernel's own router solicitations may come meanwhile.
      Object.keys(moved).filter((name) => /drop_(?!ipv6_unsupported)/.test(name)),
      [],
      'and none refused',
    )
    assertAccounted(t, 'h1', await overlay.settled(h1))

    const start = ticks(overlay.daemon(h1).pid)
    await sleep(2000)
    const used = ticks(overlay.daemon(h1).pid) - start
    t.ok(used < 40, `${used * 10} ms of CPU in 2 s without packets`)
  })
}
