/**
 * The own lease in Kubernetes: publishes this host by annotations of its node, and keeps them so.
 */
import { describeError, HeddleError, isHeddleError } from '../errors.js'
import { formatSubnet, hostAddress, type Lease, type LeaseAttrs } from '../lease.js'
import type { Tenure } from '../leasing.js'
import type { Logger } from '../log.js'
import type { NetworkConfig } from '../network-config.js'
import { seldom } from '../seldom.js'
import { isAborted, joinSignals, sleep } from '../store/abort.js'
import { annotationChanges, overwriteFaults, type AnnotationNames } from './annotations.js'
import type { KubeApi } from './api.js'
import { attrsOfNode, readNode, type KubeNode } from './node.js'
import { NODES } from './node-watch.js'
import { subnetOf } from './own-subnet.js'

/** Time between looks at the own node where nothing has changed, ms; flannel's time of resync. */
const LOOK_MS = 300_000
/** Pause after a failure, ms; flannel's. And after a change, lest two daemons with one node's name outdo each other. */
const RETRY_MS = 3000

export interface NodeTenureOptions {
  readonly api: KubeApi
  /** Reads the own node. */
  readonly ownNode: (signal: AbortSignal) => Promise<KubeNode>
  readonly names: AnnotationNames
  readonly config: NetworkConfig
  readonly attrs: LeaseAttrs
  /** Whether the node is told that its network is there. */
  readonly setCondition: boolean
  readonly log: Logger
}

export class NodeTenure implements Tenure {
  readonly #options: NodeTenureOptions
  readonly #tell: (text: string) => void
  readonly #tellAgain: (text: string) => void
  #lease: Lease | null = null
  /** Of the node as it was put right last. */
  #known = { uid: '', podCIDRs: '', overwrites: '' }
  #isReady = false
  /** The node that has been told of its network. */
  #toldUid: string | null = null
  /** Something may be amiss with the own node. */
  #isDoubtful = false
  #wake = new AbortController()

  constructor(options: NodeTenureOptions) {
    this.#options = options
    this.#tell = seldom((text) => {
      options.log.error(text)
    })
    this.#tellAgain = seldom((text) => {
      options.log.warn(text)
    })
  }

  /** @throws Error before {@link take} */
  get lease(): Lease {
    if (this.#lease === null) throw new Error('the lease is not taken yet')
    return this.#lease
  }

  /**
   * Reads which subnet the node has, and publishes this host.
   * @throws HeddleError HEDDLE_CONFIG for a subnet that is none of the network's; HEDDLE_STORE, retryable, while the
   *   node has none or the API does not answer
   */
  async take(signal: AbortSignal): Promise<void> {
    const { log } = this.#options
    await this.#put(signal)
    const { subnet, attrs } = this.lease
    log.info(`Found lease (${formatSubnet(subnet)}) of this node, publishing ${hostAddress(attrs)}`)
  }

  noteReady(): void {
    this.#isReady = true
    this.#doubt()
  }

  async renew(signal: AbortSignal): Promise<void> {
    while (!isAborted(signal)) {
      try {
        if (this.#isDoubtful) {
          this.#isDoubtful = false
          if (await this.#put(signal)) await sleep(RETRY_MS, signal)
        }
        await this.#pause(LOOK_MS, signal)
        this.#isDoubtful = true
      } catch (error) {
        if (isAborted(signal)) return
        if (!isHeddleError(error, 'HEDDLE_STORE')) throw error
        this.#tell(
          `own node cannot be kept as it should be, forwarding goes on: ${describeError(error)}`,
        )
        await sleep(RETRY_MS, signal).catch(() => undefined)
        this.#isDoubtful = true
      }
    }
  }

  /** The lease shows less than the node does: {@link see} has looked at that already. */
  observe(): Promise<void> {
    return Promise.resolve()
  }

  /** Takes note of the own node as the watch shows it, null = it is gone. */
  see(node: KubeNode | null): void {
    const { names, attrs } = this.#options
    const isRight =
      node !== null &&
      node.uid === this.#known.uid &&
      String(node.podCIDRs) === this.#known.podCIDRs &&
      Object.keys(annotationChanges(names, node.annotations, attrs)).length === 0
    if (!isRight) this.#doubt()
  }

  #doubt(): void {
    this.#isDoubtful = true
    this.#wake.abort()
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    this.#wake = new AbortController()
    if (this.#isDoubtful) return
    const either = joinSignals(signal, this.#wake.signal)
    await sleep(ms, either.signal).catch(() => undefined)
    either.dispose()
  }

  /** Puts the own node right. @returns whether annotations were written */
  async #put(signal: AbortSignal): Promise<boolean> {
    const { api, ownNode, names, attrs, config, log } = this.#options
    let node = await ownNode(signal)
    const subnet = subnetOf(node, config)
    const before = this.#lease
    if (before !== null && formatSubnet(before.subnet) !== formatSubnet(subnet)) {
      throw new HeddleError(
        'HEDDLE_LEASE_LOST',
        `node ${node.name} has the subnet ${formatSubnet(subnet)} now, and no longer ${formatSubnet(before.subnet)}; restart heddled, and the pods of this host`,
      )
    }
    const path = `${NODES}/${encodeURIComponent(node.name)}/status`
    const changes = annotationChanges(names, node.annotations, attrs)
    for (const fault of overwriteFaults(names, node.annotations)) {
      this.#tell(`node ${node.name}: ${fault}`)
    }
    const { uid } = node
    const overwrites = [names.publicIPOverwrite, names.publicIPv6Overwrite]
      .map((name) => node.annotations.get(name) ?? '')
      .join()
    const isAmiss = Object.keys(changes).length > 0
    if (isAmiss) {
      // With its uid: a node that was registered again meanwhile is another one.
      const patch = { metadata: { uid, annotations: changes } }
      node = readNode(await api.patch(path, patch, signal)) ?? node
      const written = `wrote the annotations of node ${node.name}: ${Object.keys(changes).join(', ')}`
      if (uid !== this.#known.uid || overwrites !== this.#known.overwrites) log.info(written)
      else {
        this.#tellAgain(
          `${written}; somebody had changed them: does another daemon run with NODE_NAME=${node.name}?`,
        )
      }
    }
    this.#known = { uid, podCIDRs: String(node.podCIDRs), overwrites }
    const published = attrsOfNode(node, names)
    this.#lease = {
      subnet,
      attrs: 'fault' in published ? attrs : published,
      expiresAt: null,
      version: node.resourceVersion,
      storeLease: '',
    }
    if (this.#options.setCondition && this.#isReady && this.#toldUid !== uid) {
      await api.patch(path, { status: { conditions: [networkIsThere(new Date())] } }, signal)
      this.#toldUid = uid
      log.info(`told node ${node.name} that its network is there`)
    }
    return isAmiss
  }
}

/** The condition by which the scheduler lets pods onto a node. Source: flannel behaviour, node condition */
function networkIsThere(now: Date): object {
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z')
  return {
    type: 'NetworkUnavailable',
    status: 'False',
    lastHeartbeatTime: time,
    lastTransitionTime: time,
    reason: 'FlannelIsUp',
    message: 'Flannel is running on this node',
  }
}
