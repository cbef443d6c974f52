/**
 * The subnet that Kubernetes has given to this host's node, checked against the network.
 */
import { HeddleError } from '../errors.js'
import { NO_IPV4, type LeaseSubnet } from '../lease.js'
import type { NetworkConfig } from '../network-config.js'
import { contains4, contains6, formatPrefix4, formatPrefix6 } from '../prefix.js'
import { subnetsOf, type KubeNode } from './node.js'

/**
 * The subnet of a node in the families of the network.
 * @throws HeddleError HEDDLE_STORE, retryable, where it has none yet; HEDDLE_CONFIG for one outside the network
 */
export function subnetOf(node: KubeNode, { ipv4, ipv6 }: NetworkConfig): LeaseSubnet {
  const subnets = subnetsOf(node)
  if ('fault' in subnets) {
    throw new HeddleError('HEDDLE_CONFIG', `node ${node.name}: ${subnets.fault}`)
  }
  const { v4, v6 } = subnets
  const none = (family: string): never => {
    throw new HeddleError(
      'HEDDLE_STORE',
      `node ${node.name} has no ${family} podCIDR yet; kube-controller-manager assigns them with --allocate-node-cidrs and --cluster-cidr (kubeadm init --pod-network-cidr)`,
      { retryable: true },
    )
  }
  const outside = (subnet: string, network: string): never => {
    throw new HeddleError(
      'HEDDLE_CONFIG',
      `podCIDR ${subnet} of node ${node.name} is not inside the network ${network}; make the network configuration and --cluster-cidr of kube-controller-manager agree`,
    )
  }
  if (ipv4 !== null) {
    if (v4 === null) return none('IPv4')
    if (v4.len < ipv4.network.len || !contains4(ipv4.network, v4.addr)) {
      return outside(formatPrefix4(v4), formatPrefix4(ipv4.network))
    }
  }
  if (ipv6 !== null) {
    if (v6 === null) return none('IPv6')
    if (v6.len < ipv6.network.len || !contains6(ipv6.network, v6.addr)) {
      return outside(formatPrefix6(v6), formatPrefix6(ipv6.network))
    }
  }
  return { v4: ipv4 === null ? NO_IPV4 : (v4 ?? NO_IPV4), v6: ipv6 === null ? null : v6 }
}
