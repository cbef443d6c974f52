/**
 * Opens what the command line names as the place of leases. The code of the others, gRPC above all, is never loaded.
 */
import type { LeaseSubnet } from './lease.js'
import type { Leasing } from './leasing.js'
import type { Logger } from './log.js'
import type { Options } from './options.js'
import { createStoreLeasing } from './store-leasing.js'
import { persist } from './store/patience.js'
import type { StoreObserver, SubnetStore } from './store/store.js'

export interface LeasingParts {
  /** As process.env. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** The subnet of last time, null = none known. */
  readonly previous: LeaseSubnet | null
  readonly observer: StoreObserver
  readonly log: Logger
}

/** @throws HeddleError for what cannot be opened as it was asked for */
export async function openLeasing(
  options: Options,
  { env, previous, observer, log }: LeasingParts,
  signal: AbortSignal,
): Promise<Leasing> {
  if (options.store.kind === 'kubernetes') {
    return openKubernetes(options, { env, observer, log }, signal)
  }
  const { leaseTtlMs, renewMarginMs } = options
  const store = await openStore(options, observer)
  return createStoreLeasing({ store, previous, leaseTtlMs, renewMarginMs, log })
}

async function openStore(options: Options, observer: StoreObserver): Promise<SubnetStore> {
  if (options.store.kind === 'file') {
    const { createFileStore } = await import('./store/file.js')
    return createFileStore({ directory: options.store.directory, observer })
  }
  const { createEtcdStore } = await import('./store/etcd.js')
  const { endpoints, prefix, keyFile, certFile, caFile, username, password } = options.etcd
  return createEtcdStore({
    endpoints: [...endpoints],
    prefix,
    ...(keyFile === null ? {} : { keyFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(caFile === null ? {} : { caFile }),
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    observer,
  })
}

async function openKubernetes(
  { kube }: Options,
  { env, observer, log }: Omit<LeasingParts, 'previous'>,
  signal: AbortSignal,
): Promise<Leasing> {
  const { openAccess } = await import('./kube/access.js')
  const { KubeApi } = await import('./kube/api.js')
  const { createKubeLeasing, findNodeName } = await import('./kube/kube-leasing.js')
  const { KUBERNETES_SERVICE_HOST = '', KUBERNETES_SERVICE_PORT = '' } = env
  const { apiUrl, kubeconfigFile, annotations: names, netConfigPath, setCondition } = kube
  const service = { serviceHost: KUBERNETES_SERVICE_HOST, servicePort: KUBERNETES_SERVICE_PORT }
  const api = new KubeApi(await openAccess({ apiUrl, kubeconfigFile, ...service }))
  const node = await persist(() => findNodeName(api, env, signal), log, signal)
  return createKubeLeasing({ api, node, names, netConfigPath, setCondition, observer, log })
}
