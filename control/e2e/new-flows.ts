/**
 * One datagram after another, each of a flow of its own, so that none profits from what the kernel
 * remembers of an earlier one; and the source addresses that they arrive with.
 */
import type { Capture } from '../lab/capture.js'
import type { Netns } from '../lab/netns.js'
import type { ManagedProcess } from '../lab/process.js'
import { behindEthernet, parseIpv4 } from './ipv4.js'

const PORT = 9999
const ENOUGH = 50

/** A socket for each datagram; 500 a second, since a host remembers each flow for half a minute. */
const SENDER = `
import socket, sys, time
while True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b'flow', (sys.argv[1], ${PORT}))
    s.close()
    time.sleep(0.002)
`

export class NewFlows {
  readonly #sender: ManagedProcess
  readonly #capture: Capture

  private constructor(sender: ManagedProcess, capture: Capture) {
    this.#sender = sender
    this.#capture = capture
  }

  /** Starts sending; settles when the first one has arrived. */
  static async start(from: Netns, to: string, place: Netns, iface: string): Promise<NewFlows> {
    const capture = await place.capture(iface, `udp dst port ${PORT}`)
    const sender = await from.spawn('python3', ['-c', SENDER, to], { name: 'new-flows' })
    if ((await capture.waitForPackets(1, 10_000)).length === 0) throw new Error('none has arrived')
    return new NewFlows(sender, capture)
  }

  /** Stops when enough have arrived to tell something. @returns how many from each source address */
  async stop(): Promise<Map<string, number>> {
    await this.#capture.waitForPackets(ENOUGH, 10_000)
    await this.#sender.stop()
    const { packets } = await this.#capture.stop()
    const sources = new Map<string, number>()
    for (const { bytes } of packets) {
      const { src } = parseIpv4(behindEthernet(bytes) ?? bytes)
      sources.set(src, (sources.get(src) ?? 0) + 1)
    }
    return sources
  }
}
