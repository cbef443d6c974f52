/**
 * Every flag of heddled: flannel's whole set and Heddle's own, with type, default and state.
 *
 * options.ts reads it for parsing and for refusing what is not built, usage.ts for `--help`, and
 * docs/OPERATIONS.md is checked against it.
 */
import { MAX_RUN } from '../dataplane/index.js'
import type { FlagSpec, FlagValue } from './flags.js'

export const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env'

export interface Flag extends FlagSpec {
  readonly byDefault: FlagValue
  /** One or two lines for `--help`. */
  readonly help: string
  /** Whose flag it is. */
  readonly origin: 'flannel' | 'heddle'
  /** Taken for flannel's sake, and why it does nothing; a value is one warning. */
  readonly withoutEffect?: string
  /** Never printed with its value. */
  readonly isSecret?: boolean
  /** Left out of `--help`: for tests. */
  readonly isHidden?: boolean
}

function flannel(
  name: string,
  type: Flag['type'],
  byDefault: FlagValue,
  help: string,
  more: Partial<Flag> = {},
): Flag {
  return { name, type, byDefault, help, origin: 'flannel', ...more }
}

function own(
  name: string,
  type: Flag['type'],
  byDefault: FlagValue,
  help: string,
  more: Partial<Flag> = {},
): Flag {
  return { name, type, byDefault, help, origin: 'heddle', ...more }
}

const ETCD_ENDPOINTS = 'http://127.0.0.1:4001,http://127.0.0.1:2379'

/** In the order of `--help`. */
export const FLAGS: readonly Flag[] = [
  flannel('etcd-endpoints', 'string', ETCD_ENDPOINTS, 'etcd servers, separated by commas'),
  flannel('etcd-prefix', 'string', '/coreos.com/network', 'key prefix of this network in etcd'),
  flannel('etcd-keyfile', 'string', '', 'private key for etcd; needs --etcd-certfile'),
  flannel('etcd-certfile', 'string', '', 'client certificate for etcd; needs --etcd-keyfile'),
  flannel('etcd-cafile', 'string', '', 'certificate authority that signed the etcd servers'),
  flannel('etcd-username', 'string', '', 'user for etcd'),
  flannel('etcd-password', 'string', '', 'password for etcd', { isSecret: true }),
  flannel(
    'iface',
    'strings',
    [],
    'interface of the underlay, by name or address; may be repeated, the first that fits is taken',
  ),
  flannel(
    'iface-regex',
    'strings',
    [],
    'interface whose address, else whose name matches; tried after all of --iface; may be repeated',
  ),
  flannel('iface-can-reach', 'string', '', 'interface that routes to this address; tried last'),
  flannel(
    'public-ip',
    'string',
    '',
    'IPv4 address that peers are told; without --iface it also chooses the interface',
  ),
  flannel(
    'public-ipv6',
    'string',
    '',
    'IPv6 address that peers are told; without --iface and --public-ip it also chooses the interface',
  ),
  flannel(
    'subnet-file',
    'string',
    DEFAULT_SUBNET_FILE,
    'where the subnet and the MTU are written; names this instance',
  ),
  flannel(
    'subnet-lease-renew-margin',
    'int',
    60,
    'minutes before its expiry at which the lease is renewed, 1 to 1439',
  ),
  flannel('ip-masq', 'bool', false, 'masquerade traffic that leaves the network'),
  flannel('ip-masq-fully-random-disable', 'bool', false, 'masquerade without random source ports'),
  flannel('iptables-forward-rules', 'bool', true, 'accept forwarded traffic of the network'),
  flannel(
    'iptables-resync',
    'int',
    5,
    'seconds between two checks of the firewall rules; 0 = only at the start',
  ),
  flannel(
    'ip-blackhole-route',
    'bool',
    false,
    'blackhole addresses of the own subnet that no pod has',
  ),
  flannel('healthz-ip', 'string', '0.0.0.0', 'address of the health server'),
  flannel('healthz-port', 'int', 0, 'port of the health server; 0 = none'),
  flannel('version', 'bool', false, 'print the version on stderr and exit'),
  flannel('v', 'int', 0, 'verbosity of the log'),

  flannel('kube-subnet-mgr', 'bool', false, 'take the subnets that Kubernetes gives to nodes'),
  flannel(
    'kube-api-url',
    'string',
    '',
    'address of the Kubernetes API; without it and --kubeconfig-file that of the pod’s cluster',
  ),
  flannel('kubeconfig-file', 'string', '', 'kubeconfig with address and credentials of the API'),
  flannel(
    'kube-annotation-prefix',
    'string',
    'flannel.alpha.coreos.com',
    'prefix of the annotations by which nodes tell of themselves',
  ),
  flannel(
    'net-config-path',
    'string',
    '/etc/kube-flannel/net-conf.json',
    'network configuration with Kubernetes',
  ),
  flannel(
    'set-node-network-unavailable',
    'bool',
    true,
    'clear the condition NetworkUnavailable of the node when packets flow',
  ),
  flannel('vmodule', 'string', '', 'taken and ignored: flannel’s verbosity by file', {
    withoutEffect: 'names files of flannel; the log has one verbosity, --v',
  }),
  flannel('log_backtrace_at', 'string', '', 'taken and ignored: flannel’s stack at a file:line', {
    withoutEffect: 'names a line of flannel; what is a fault of ours is logged with its stack',
  }),

  own(
    'store',
    'string',
    'etcd',
    'where leases are kept: etcd, or file:DIR for the daemons of one machine',
  ),
  own('log-format', 'string', 'klog', 'klog, or json for one object a line'),
  own(
    'busy-poll-us',
    'int',
    50,
    'microseconds that the engine looks for packets before it sleeps, 0 to 1000',
  ),
  own(
    'queues',
    'int',
    1,
    'engines that share the packets, each with a thread, a queue of the device and a socket, 1 to 16',
  ),
  own(
    'keep-device',
    'bool',
    false,
    'leave the TUN device with its routes when the daemon ends; the next one goes on with it',
  ),
  own(
    'tun-offload',
    'bool',
    true,
    'TCP super-packets from and to the TUN device (TSO) where the kernel has them; the next two need it',
  ),
  own(
    'tun-uso',
    'bool',
    true,
    'UDP super-packets from and to the TUN device (USO) where the kernel has them',
  ),
  own('tun-gro', 'bool', true, 'join packets that arrive into super-packets for the TUN device'),
  own(
    'tun-ring',
    'bool',
    true,
    'read many packets of the TUN device in one system call (io_uring) where the kernel can',
  ),
  own(
    'udp-segment',
    'bool',
    true,
    'send many packets to a peer in one call (UDP_SEGMENT) where the kernel can',
  ),
  own(
    'udp-gro',
    'bool',
    true,
    'receive many packets of a peer in one piece (UDP_GRO) where the kernel can',
  ),
  own(
    'ingress-check',
    'string',
    'leases',
    'which sources packets from outside may have: leases, strict, or off for any',
  ),
  own(
    'ingress-allow',
    'strings',
    [],
    'SUBNET=ADDRESS: a host behind a NAT that may send packets with these sources; may be repeated',
  ),
  own('udp-segment-max', 'int', MAX_RUN, 'packets a send may carry', { isHidden: true }),
  own('lease-ttl-seconds', 'int', 86400, 'lifetime of the lease', { isHidden: true }),
]

/** Environment variable that sets a flag which the command line does not. */
export function environmentName(flag: Flag): string {
  return `FLANNELD_${flag.name.toUpperCase().replaceAll('-', '_')}`
}
