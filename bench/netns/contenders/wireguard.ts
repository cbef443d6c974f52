/**
 * wireguard-go: WireGuard in user space, in Go. It encrypts, which Heddle's `udp` backend does not.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must } from '../../../control/lab/process.js'
import { type Contender, startTunnels, UNDERLAY_MTU, untilDevice } from '../contender.js'
import { PARTS } from '../measurements.js'

/** Outer IPv4 20, UDP 8, WireGuard header 16, authentication tag 16. */
const OVERHEAD = 60
const PORT = '51820'

/** The control sockets in /run/wireguard are shared by all namespaces, so each side has its name. */
const device = (i: number): string => `hdlwg${String(i + 1)}`

async function createKey(dir: string): Promise<{ file: string; publicKey: string }> {
  mkdirSync(dir, { recursive: true })
  const secret = await must('wg', ['genkey'])
  const file = join(dir, 'wireguard.key')
  writeFileSync(file, secret, { mode: 0o600 })
  return { file, publicKey: (await must('wg', ['pubkey'], { input: secret })).trim() }
}

export const wireguardGo: Contender = {
  name: 'wireguard-go',
  note: 'user space, Go; it encrypts, Heddle does not',
  mtu: UNDERLAY_MTU - OVERHEAD,
  device: device(0),
  needs: ['wireguard-go', 'wg'],
  parts: PARTS,
  version: async () =>
    /v([\d.]+)/.exec(await must('wireguard-go', ['--version']))?.[1] ?? 'version unknown',
  async start(bed) {
    const keys = await Promise.all(bed.hosts.map(({ place }) => createKey(place.dir)))
    return startTunnels(bed, this.mtu, device, async (side, other, i) => {
      const name = device(i)
      const daemon = await side.place.spawn('wireguard-go', ['--foreground', name], {
        env: { LOG_LEVEL: 'error' },
      })
      await untilDevice(side, name)
      const peer = ['peer', keys[1 - i]?.publicKey ?? '', 'allowed-ips', other.subnet]
      await must('ip', [
        ...['netns', 'exec', side.place.netns, 'wg', 'set', name],
        ...['listen-port', PORT, 'private-key', keys[i]?.file ?? ''],
        ...[...peer, 'endpoint', `${other.underlay}:${PORT}`],
      ])
      return daemon
    })
  },
}
