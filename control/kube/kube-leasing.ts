/**
 * Leasing where Kubernetes has given each node its subnet: hosts publish by annotations of their Node objects what
 * flannel's do, and learn of each other by watching those.
 *
 * A lease lasts as long as the node. What somebody takes from the own annotations is put back; a node that comes back
 * with another subnet ends the daemon, because its pods have addresses of the old one.
 */
import { readFile } from 'node:fs/promises'
import { describeError, HeddleError } from '../errors.js'
import type { LeaseAttrs } from '../lease.js'
import type { GivenAddresses, Leasing } from '../leasing.js'
import type { Logger } from '../log.js'
import { parseNetworkConfig, type NetworkConfig } from '../network-config.js'
import { parseAddr4, parseAddr6 } from '../prefix.js'
import { joinSignals } from '../store/abort.js'
import { createReachability } from '../store/reachability.js'
import type { StoreObserver } from '../store/store.js'
import type { AnnotationNames } from './annotations.js'
import type { KubeApi } from './api.js'
import { objectOf, textOf } from './json.js'
import { attrsOfNode, readNode, type KubeNode } from './node.js'
import { NodeTable } from './node-table.js'
import { NodeTenure } from './node-tenure.js'
import { NODES, watchNodes } from './node-watch.js'
import { subnetOf } from './own-subnet.js'

export interface KubeLeasingOptions {
  readonly api: KubeApi
  readonly node: string
  readonly names: AnnotationNames
  /** File with the network configuration. */
  readonly netConfigPath: string
  /** Whether the node is told that its network is there. */
  readonly setCondition: boolean
  readonly observer: StoreObserver
  readonly log: Logger
}

export function createKubeLeasing(options: KubeLeasingOptions): Leasing {
  const { api, node: name, names, observer, log } = options
  const closing = new AbortController()
  const reachability = createReachability(observer)
  let held: { readonly tenure: NodeTenure; readonly config: NetworkConfig } | null = null

  const ownNode = (signal: AbortSignal): Promise<KubeNode> => getNode(api, name, signal)
  return {
    description: `Kubernetes Subnet Manager - ${name}`,
    readConfig: () => readConfigFile(options.netConfigPath),
    whyNot: async (signal) => {
      subnetOf(await ownNode(signal), await readConfigFile(options.netConfigPath))
      return null
    },
    givenAddresses: async (signal) => givenBy(await ownNode(signal), names),
    published: async (_addresses, signal) => publishedBy(await ownNode(signal), names),
    take: async (config, attrs, signal) => {
      const { setCondition } = options
      const tenure = new NodeTenure({ api, ownNode, names, config, attrs, setCondition, log })
      await tenure.take(signal)
      held = { tenure, config }
      return tenure
    },
    async *watch(outer) {
      if (held === null) return
      const { tenure, config } = held
      const { subnet } = tenure.lease
      const onSeen = (node: KubeNode | null): void => {
        tenure.see(node)
      }
      const own = { name, subnet, onSeen }
      const table = new NodeTable({ names, families: config, own, observer })
      const { signal, dispose } = joinSignals(outer, closing.signal)
      try {
        yield* watchNodes({ api, table, reachability }, signal)
      } finally {
        dispose()
      }
    },
    noteReady: () => held?.tenure.noteReady(),
    close: () => {
      closing.abort(new HeddleError('HEDDLE_ABORTED', 'the leasing was closed'))
      return Promise.resolve()
    },
  }
}

/** @throws HeddleError HEDDLE_STORE, retryable */
async function getNode(api: KubeApi, name: string, signal: AbortSignal): Promise<KubeNode> {
  const node = readNode(await api.get(`${NODES}/${encodeURIComponent(name)}`, signal))
  if (node !== null) return node
  throw new HeddleError('HEDDLE_STORE', `Kubernetes API: node ${name} has no name`, {
    retryable: true,
  })
}

/**
 * The name of this host's node: NODE_NAME, else that of the node on which the pod runs.
 * @param env  NODE_NAME, POD_NAME, POD_NAMESPACE
 * @throws HeddleError HEDDLE_USAGE when the environment does not tell, HEDDLE_STORE when the API does not answer
 */
export async function findNodeName(
  api: KubeApi,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<string> {
  const { NODE_NAME: node = '', POD_NAME: pod = '', POD_NAMESPACE: namespace = '' } = env
  if (node !== '') return node
  if (pod === '' || namespace === '') {
    throw new HeddleError(
      'HEDDLE_USAGE',
      '--kube-subnet-mgr needs the name of this host’s node: set NODE_NAME, or POD_NAME and POD_NAMESPACE',
    )
  }
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`
  const spec = objectOf(objectOf(await api.get(path, signal))?.['spec'])
  const name = textOf(spec?.['nodeName'])
  if (name !== '') return name
  throw new HeddleError('HEDDLE_STORE', `pod ${namespace}/${pod} is on no node yet`, {
    retryable: true,
  })
}

async function readConfigFile(path: string): Promise<NetworkConfig> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new HeddleError('HEDDLE_CONFIG', `cannot read ${path}: ${describeError(cause)}`, {
      retryable: true,
    })
  }
  return parseNetworkConfig(text, 'assigned')
}

function givenBy({ name, annotations }: KubeNode, names: AnnotationNames): GivenAddresses {
  const pick = (annotation: string, parse: (text: string) => unknown): string | null => {
    const text = annotations.get(annotation) ?? ''
    if (text === '') return null
    if (parse(text) !== null) return text
    throw new HeddleError(
      'HEDDLE_CONFIG',
      `annotation ${annotation}=${text} of node ${name} is no address; correct or remove it`,
    )
  }
  return {
    publicIP: pick(names.nodePublicIP, parseAddr4),
    publicIPv6: pick(names.nodePublicIPv6, parseAddr6),
  }
}

/** What flannel or Heddle wrote there before; null = nothing that can be read. */
function publishedBy(node: KubeNode, names: AnnotationNames): LeaseAttrs | null {
  const attrs = attrsOfNode(node, names)
  return 'fault' in attrs ? null : attrs
}
