/**
 * Hosts for the model test: real agents, each behind a relay of its own to one real etcd, which can be cut.
 * Their backend is `alloc`, so that many run in one namespace. Test support, used by no other code.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ALL_OFFLOADS } from '../dataplane/index.js'
import { Agent } from './agent.js'
import { isHeddleError } from './errors.js'
import { createLogger } from './log.js'
import type { Status } from './status.js'
import { createStoreLeasing } from './store-leasing.js'
import { EtcdFixture } from './store/etcd-fixture.js'
import { createEtcdStore } from './store/etcd.js'
import { TcpRelay } from './store/tcp-relay.js'
import { readPreviousSubnet } from './subnet-file.js'

const PREFIX = '/coreos.com/network'
export const TTL_MS = 3000
/** Eight subnets: hosts get in each other's way. */
const CONFIG = { Network: '10.5.0.0/24', SubnetLen: 27, Backend: { Type: 'alloc' } }

/** An agent that runs, or has ended. */
interface Incarnation {
  readonly agent: Agent
  readonly stop: AbortController
  /** How it ended; null = it runs, '' = it was told to. */
  fault: string | null
  readonly over: Promise<void>
}

export class ModelHost {
  readonly address: string
  readonly lines: string[] = []
  private readonly relay: TcpRelay
  private readonly subnetFile: string
  private incarnation: Incarnation | null = null

  constructor(number: number, relay: TcpRelay, folder: string) {
    this.address = `172.30.0.${String(11 + number)}`
    this.relay = relay
    this.subnetFile = join(folder, `${String(number)}.env`)
  }

  /** Starts the daemon's run, which reads the subnet of last time. */
  async start(): Promise<void> {
    const stop = new AbortController()
    const log = createLogger({ stream: { write: (line) => this.lines.push(line) } })
    const store = createEtcdStore({
      endpoints: [this.relay.endpoint],
      prefix: PREFIX,
      timeoutMs: 1000,
    })
    const previous = await readPreviousSubnet(this.subnetFile)
    const leasing = createStoreLeasing({
      store,
      previous,
      leaseTtlMs: TTL_MS,
      renewMarginMs: TTL_MS,
      log,
    })
    const agent = new Agent({
      leasing,
      ifaces: ['eth0'],
      ifaceRegexes: [],
      ifaceCanReach: null,
      publicIP: this.address,
      publicIPv6: null,
      subnetFile: this.subnetFile,
      previous,
      firewall: { masquerade: false, fullyRandom: false, forward: false, resyncMs: 0 },
      blackholeRoute: false,
      busyPollUs: 0,
      queues: 1,
      keepDevice: false,
      ingressCheck: 'leases',
      ingressAllow: [],
      offload: ALL_OFFLOADS,
      handed: [],
      onLeaving: () => Promise.resolve(),
      log,
      onReady: () => undefined,
    })
    const running: Incarnation = { agent, stop, fault: null, over: Promise.resolve() }
    const over = agent
      .run(stop.signal)
      .then(
        () => '',
        (error: unknown) => (isHeddleError(error) ? error.code : String(error)),
      )
      .then(async (fault) => {
        running.fault = fault
        await leasing.close()
      })
    this.incarnation = Object.assign(running, { over })
  }

  /** As a host that is switched off: the lease stays until it expires. */
  async stop(): Promise<void> {
    this.incarnation?.stop.abort()
    await this.incarnation?.over
    this.incarnation = null
  }

  cut(): Promise<void> {
    return this.relay.cut()
  }

  heal(): Promise<void> {
    return this.relay.restore()
  }

  /** Why it has ended by itself; null = it has not. */
  get fault(): string | null {
    return this.incarnation?.fault ?? null
  }

  get status(): Status | null {
    return this.incarnation?.agent.status() ?? null
  }

  /** Its own subnet, null = it has none (yet). */
  get subnet(): string | null {
    return this.status?.lease.subnet ?? null
  }
}

export class ModelWorld {
  readonly hosts: readonly ModelHost[]
  private readonly etcd: EtcdFixture
  private readonly folder: string

  private constructor(hosts: readonly ModelHost[], etcd: EtcdFixture, folder: string) {
    this.hosts = hosts
    this.etcd = etcd
    this.folder = folder
  }

  static async create(count: number): Promise<ModelWorld> {
    const etcd = await EtcdFixture.start()
    await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(CONFIG))
    const folder = mkdtempSync(join(tmpdir(), 'heddle-model-'))
    const relays = await Promise.all(
      Array.from({ length: count }, () => TcpRelay.start(etcd.endpoint)),
    )
    return new ModelWorld(
      relays.map((relay, number) => new ModelHost(number, relay, folder)),
      etcd,
      folder,
    )
  }

  async remove(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.stop()))
    await Promise.all(this.hosts.map((host) => host.cut()))
    await this.etcd.remove()
    rmSync(this.folder, { recursive: true })
  }

  /** Leases as etcd has them: subnet → public address. */
  async leases(): Promise<Map<string, string>> {
    const text = await this.etcd.ctl('get', '--prefix', `${PREFIX}/subnets/`)
    const lines = text.split('\n').filter((line) => line !== '')
    const pairs = lines.flatMap((line, i): [string, string][] =>
      i % 2 === 1 ? [[lines[i - 1] ?? '', line]] : [],
    )
    return new Map(
      pairs.map(([key, value]) => [
        key.slice(key.lastIndexOf('/') + 1).replace('-', '/'),
        (JSON.parse(value) as { PublicIP: string }).PublicIP,
      ]),
    )
  }

  /** An operator deletes the key of a host's lease. */
  async evict(host: ModelHost): Promise<void> {
    if (host.subnet !== null) {
      await this.etcd.ctl('del', `${PREFIX}/subnets/${host.subnet.replace('/', '-')}`)
    }
  }

  /** etcd's lease behind a host's key ends, as if it had not been renewed in time. */
  async expire(host: ModelHost): Promise<void> {
    if (host.subnet === null) return
    const key = `${PREFIX}/subnets/${host.subnet.replace('/', '-')}`
    const fields = await this.etcd.ctl('get', key, '--write-out=fields')
    const id = /^"Lease" : (\d+)$/m.exec(fields)?.[1]
    if (id !== undefined && id !== '0') {
      await this.etcd.ctl('lease', 'revoke', BigInt(id).toString(16)).catch(() => undefined)
    }
  }

  async compact(): Promise<void> {
    const fields = await this.etcd.ctl('get', 'x', '--write-out=fields')
    const revision = /^"Revision" : (\d+)$/m.exec(fields)?.[1] ?? '1'
    // What is compacted already cannot be once more.
    await this.etcd.ctl('compact', revision).catch(() => undefined)
  }

  async restartEtcd(downMs: number): Promise<void> {
    await this.etcd.kill()
    await sleep(downMs)
    await this.etcd.resume()
  }
}
