/**
 * The daemon's status: one JSON document over a unix socket beside the subnet file.
 *
 * `heddle status` and whoever else may open the socket (mode 0600: root) read it with
 * `GET /status`. The socket's path names the instance, so several daemons do not collide.
 */
import { chmodSync, rmSync } from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import type { CountersReport, DataplaneReport, OffloadReport } from '../dataplane/index.js'
import { HeddleError } from './errors.js'
import type { FirewallStatus } from './firewall/firewall.js'

/** A peer as the status shows it. */
export interface PeerStatus {
  readonly subnet: string
  /** IPv4 address of its host, `0.0.0.0` = none. */
  readonly publicIP: string
  readonly publicIPv6: string | null
  /** Seconds since this daemon learned of the lease as it is now. */
  readonly ageSeconds: number
  /** ISO 8601 time at which the store forgets the lease; null = never. */
  readonly expiresAt: string | null
}

/** One TUN device with its socket. */
export interface TunnelStatus {
  readonly device: { readonly name: string; readonly mtu: number; readonly receiveBuffer: number }
  /** IP version of the outer packets: `ipv4` or `ipv6`. */
  readonly outer: string
  /** IP versions that it carries. */
  readonly inner: readonly string[]
  /** Peer routes in its forwarding table. */
  readonly routes: number
  readonly counters: CountersReport
  /** What each engine has read from its devices, packets. */
  readonly queues: DataplaneReport['queues']
  readonly offloads: readonly OffloadReport[]
}

export interface Status {
  readonly version: string
  readonly pid: number
  /** What the daemon is doing: `starting`, `ready`, `stopping`. */
  readonly state: string
  readonly startedAt: string
  readonly store: { readonly description: string; readonly isReachable: boolean }
  readonly backend: {
    readonly type: string
    /** UDP port, null = there is none. */
    readonly port: number | null
    /** Who carries the packets: `user`, `kernel` or `none` of us. */
    readonly dataplane: string
  }
  /** Device, queues and offloads of the first tunnel, null or empty without one; those of all are in `tunnels`. */
  readonly device: TunnelStatus['device'] | null
  /** Devices by which the kernel carries packets. */
  readonly kernelDevices: readonly { readonly name: string; readonly mtu: number }[]
  /** Networks of both families, joined by a comma. */
  readonly network: string
  readonly lease: {
    readonly subnet: string
    readonly publicIP: string
    readonly publicIPv6: string | null
    readonly expiresAt: string | null
  }
  readonly peers: readonly PeerStatus[]
  /** Firewall rules of ours. */
  readonly firewall: FirewallStatus
  /** Peer routes in all forwarding tables. */
  readonly routes: number
  readonly skippedKeys: number
  /** Of all tunnels, added up. */
  readonly counters: CountersReport
  readonly queues: TunnelStatus['queues']
  readonly offloads: TunnelStatus['offloads']
  /** Every tunnel for itself. */
  readonly tunnels: readonly TunnelStatus[]
}

/** Path of the control socket of the instance that a subnet file names. */
export function socketPath(subnetFile: string): string {
  return `${subnetFile}.sock`
}

/**
 * Serves the status on the instance's socket. The caller holds the instance's lock, so a socket
 * file that is already there is a left-over and is removed.
 * @param read  the status of now; null = not known yet (answered with 503)
 */
export async function serveStatus(subnetFile: string, read: () => Status | null): Promise<Server> {
  const path = socketPath(subnetFile)
  rmSync(path, { force: true })
  const server = createServer((req, res) => {
    if (req.url !== '/status') {
      res.writeHead(404).end()
      return
    }
    const status = read()
    res.writeHead(status === null ? 503 : 200, { 'content-type': 'application/json' })
    res.end(JSON.stringify(status))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new HeddleError(
          'HEDDLE_DEVICE',
          `cannot open the control socket ${path}: ${error.message}`,
          {
            cause: error,
          },
        ),
      )
    })
    server.listen(path, resolve)
  })
  chmodSync(path, 0o600)
  return server
}

/**
 * Reads the status of a running daemon.
 * @throws HEDDLE_DEVICE when nobody answers on the socket
 */
export function readStatus(subnetFile: string): Promise<Status> {
  const path = socketPath(subnetFile)
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      reject(
        new HeddleError(
          'HEDDLE_DEVICE',
          `no daemon answers on ${path}: ${why}; is heddled running with --subnet-file=${subnetFile}?`,
          { cause },
        ),
      )
    }
    // A connection of its own: one kept from an earlier reading may lead to a daemon that is gone.
    const options = { socketPath: path, path: '/status', timeout: 5000, agent: false }
    const req = request(options, (res) => {
      let text = ''
      res.setEncoding('utf8')
      res.on('data', (chunk: string) => (text += chunk))
      res.on('error', (error) => {
        fail(error.message, error)
      })
      res.on('end', () => {
        if (res.statusCode === 503) fail('it is still starting')
        else if (res.statusCode !== 200) fail(`status ${String(res.statusCode)}`)
        else {
          try {
            resolve(JSON.parse(text) as Status)
          } catch (error) {
            fail('the answer is not JSON', error)
          }
        }
      })
    })
    req.on('timeout', () => req.destroy(new Error('it did not answer within 5 s')))
    req.on('error', (error: NodeJS.ErrnoException) => {
      fail(error.code === 'ENOENT' ? 'the socket does not exist' : error.message, error)
    })
    req.end()
  })
}
