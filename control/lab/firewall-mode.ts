/**
 * Which of flannel's firewall modes this machine's kernel can run: iptables asks for br_netfilter.
 */
import { existsSync } from 'node:fs'

const HAS_BRIDGE_NETFILTER = existsSync('/proc/sys/net/bridge/bridge-nf-call-iptables')

/** Members of a network configuration that runs here. */
export const FIREWALL_MODE: Readonly<Record<string, unknown>> = HAS_BRIDGE_NETFILTER
  ? {}
  : { EnableNFTables: true }
