/**
 * The control plane's public face: the agent, the stores and flannel's formats, importable as
 * `heddle/control`. No logic here.
 */
export { Agent, type AgentOptions } from './agent.js'
export { ERROR_CODES, HeddleError, describeError, isHeddleError, type ErrorCode } from './errors.js'
export {
  chooseInterface,
  type AddressInfo,
  type ChosenInterface,
  type InterfaceRequest,
  type RouteInfo,
} from './host/interface.js'
export { formatSubnet, type Lease, type LeaseAttrs, type LeaseSubnet } from './lease.js'
export { formatLeaseAttrs, parseLeaseAttrs } from './lease-json.js'
export { LeaseWatcher, type LeaseChanges } from './lease-watcher.js'
export type { GivenAddresses, Leasing, Tenure } from './leasing.js'
export { createLogger, type LogOptions, type Logger } from './log.js'
export { parseNetworkConfig, type NetworkConfig } from './network-config.js'
export type { Prefix4, Prefix6 } from './prefix.js'
export { askForReload, readStatus } from './control-socket.js'
export type { PeerStatus, Status } from './status.js'
export { createStoreLeasing, type StoreLeasingOptions } from './store-leasing.js'
export { createEtcdStore } from './store/etcd.js'
export { createFileStore, type FileStoreOptions } from './store/file.js'
export type { StoreEvent, StoreObserver, SubnetStore } from './store/store.js'
export { formatSubnetFile, readPreviousSubnet, writeSubnetFile } from './subnet-file.js'
export { formatSubnetKey, parseSubnetKey } from './subnet-key.js'
