/**
 * What `heddle replay` is asked to do: flags and an optional JSON file, checked in full before the
 * first packet, so that every mistake is one clear message.
 *
 * The file says what a host knows: `{"network", "subnet", "ipv6Network", "ipv6Subnet", "publicIP",
 * "port", "mtu", "routes"}`, with routes as `{"10.5.2.0/24": "192.0.2.2"}`, and `"vni"` and `"mac"` for
 * VXLAN. Flags win over the file, family by family; their routes are added.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import {
  type EncapChoice,
  INGRESS_CHECKS,
  type IngressCheckMode,
  IPIP_OVERHEAD,
  LEAST_MTU_6,
  type Mac,
  UDP_OVERHEAD,
  UDP_PORT,
  VXLAN_OVERHEAD,
  VXLAN_PORT,
  VXLAN_PORT_IANA,
  VXLAN_VNI,
} from '../../dataplane/index.js'
import {
  addressFrom,
  familyOf,
  formatPrefix,
  hostFrom,
  isPrefix4,
  isWithin,
  macFrom,
  numberWithin,
  pairFrom,
  prefixFrom,
  type Family,
  type Host,
  type Prefix,
  type PrefixPair,
  usage,
} from './replay-values.js'

export type Direction = 'egress' | 'ingress' | 'auto'

/** A subnet and the host its packets go to. */
export interface PeerRoute {
  readonly subnet: Prefix
  readonly host: Host
  /** MAC address of its VTEP; only with VXLAN. */
  readonly mac?: Mac
}

export interface ReplaySettings {
  readonly input: string
  readonly output: string | null
  readonly isJson: boolean
  readonly direction: Direction
  readonly encap: EncapChoice
  /** The own subnets, at least one. */
  readonly subnets: PrefixPair
  /** Own outer address, as in {@link Host}; null = unknown, then every datagram counts as ours. */
  readonly publicIP: number | bigint | null
  /** UDP port that the own host sends from, and peers listen at. */
  readonly port: number
  /** UDP ports at which datagrams are the overlay's. */
  readonly ports: readonly number[]
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly routes: readonly PeerRoute[]
  /** Which sources packets from outside may have, by the routes. */
  readonly ingressCheck: IngressCheckMode
}

const DIRECTIONS: readonly Direction[] = ['egress', 'ingress', 'auto']
/** Backends that flannel knows and replay does not. */
const OTHER_BACKENDS = ['wireguard']
const ETHERNET_MTU = 1500
const MIN_MTU = 68
const MAX_MTU = 65535
const MAX_VNI = 0xff_ffff
/** What a backend's ports and overhead are: the first port is that of its own datagrams, 0 = it has none. */
const BACKENDS = {
  udp: { ports: [UDP_PORT], overhead: UDP_OVERHEAD },
  vxlan: { ports: [VXLAN_PORT, VXLAN_PORT_IANA], overhead: VXLAN_OVERHEAD },
  ipip: { ports: [0], overhead: { 4: IPIP_OVERHEAD, 6: IPIP_OVERHEAD } },
} as const
type BackendName = keyof typeof BACKENDS

export const REPLAY_USAGE = `usage: heddle replay IN.pcap --subnet=CIDR [options]

Runs each packet of a capture through the engine and prints what becomes of it.

  --backend=udp            the encapsulation: udp, vxlan or ipip
  --subnet=CIDR            subnet of the host that the engine stands for, IPv4 or IPv6; may be given
                           once for each
  --route=SUBNET=HOST      where a subnet's packets go, as HOST, HOST:PORT or [HOST]:PORT; may be
                           repeated. With vxlan followed by the MAC of the host's flannel.N (for IPv6
                           subnets flannel-v6.N), as HOST,MAC. Hosts are IPv4 or IPv6, all the same
  --vni=N                  VXLAN network identifier (default ${VXLAN_VNI})
  --mac=MAC                MAC of the own flannel.N; needed with vxlan
  --network=CIDR           the whole network, once for each family; subnets outside it are refused
  --public-ip=ADDR         own outer address; datagrams to others are left out
  --port=N                 UDP port of the overlay, and no other (default ${UDP_PORT}; with vxlan datagrams
                           to ${VXLAN_PORT} and to ${VXLAN_PORT_IANA} are taken, and sent to ${VXLAN_PORT})
  --mtu=N                  MTU of the TUN device (default ${mtuOf('udp', 4)}, vxlan ${mtuOf('vxlan', 4)}; over IPv6 ${mtuOf('udp', 6)} and ${mtuOf('vxlan', 6)})
  --ingress-check=off      which sources packets from outside may have: leases or strict, by the
                           routes given, or off for any
  --config=FILE.json       the same as JSON: network, subnet, ipv6Network, ipv6Subnet, publicIP, port,
                           mtu, routes, vni, mac
  --direction=auto         egress: packets go to the TUN device; ingress: datagrams to the port
                           arrive from the underlay; auto: egress for raw-IP captures, without
                           the packets for the own subnet, and ingress for others
  -w, --write=OUT.pcap     write what comes out, as raw IP
  --json                   one JSON object per packet, and a summary at the end
`

const CONFIG = z.strictObject({
  network: z.string().optional(),
  subnet: z.string().optional(),
  ipv6Network: z.string().optional(),
  ipv6Subnet: z.string().optional(),
  publicIP: z.string().optional(),
  port: z.number().optional(),
  mtu: z.number().optional(),
  vni: z.number().optional(),
  mac: z.string().optional(),
  routes: z.record(z.string(), z.string()).optional(),
})
type Config = z.infer<typeof CONFIG>

/**
 * Reads the arguments of `heddle replay`, and the file they name.
 * @param argv  what follows the command's name
 * @returns     the settings, or null when help was asked for
 * @throws      HeddleError HEDDLE_USAGE, which names the flag or field, its value and the remedy
 */
export function parseReplay(argv: readonly string[]): ReplaySettings | null {
  const { values, positionals } = parseFlags(argv)
  if (values.help) return null
  const [input, ...more] = positionals
  if (input === undefined) throw usage('no capture is named; give IN.pcap')
  if (more.length > 0) throw usage(`one capture at a time, so what is "${more.join(' ')}"?`)
  const backend = backendFrom(values.backend)
  const config = values.config === undefined ? {} : readConfig(values.config)
  const { ports } = BACKENDS[backend]
  const givenPort = values.port ?? config.port
  if (backend === 'ipip' && givenPort !== undefined) throw usage('--port: ipip has no ports')
  const port = givenPort === undefined ? ports[0] : numberWithin('--port', givenPort, 1, 65535)
  const networks = chosen('network', values.network, config.network, config.ipv6Network)
  const subnets = chosen('subnet', values.subnet, config.subnet, config.ipv6Subnet)
  if (subnets.ipv4 === null && subnets.ipv6 === null) {
    throw usage('the own subnet is not known; give --subnet=CIDR, for example 10.5.1.0/24')
  }
  checkInside(networks, '--subnet', subnets.ipv4)
  checkInside(networks, '--subnet', subnets.ipv6)
  const routes = routesFrom(config, values.route, { port, networks, subnets, backend })
  const ipText = values['public-ip'] ?? config.publicIP
  const publicIP = ipText === undefined ? null : addressFrom('--public-ip', ipText)
  const family = outerFamily(publicIP, routes)
  if (backend === 'ipip' && (family === 6 || subnets.ipv6 !== null)) {
    throw usage('--backend=ipip carries IPv4 in IPv4 alone')
  }
  const leastMtu = subnets.ipv6 === null ? MIN_MTU : LEAST_MTU_6
  const mtu = values.mtu ?? config.mtu ?? mtuOf(backend, family)
  return {
    input,
    output: values.write ?? null,
    isJson: values.json,
    direction: directionFrom(values.direction),
    subnets,
    publicIP,
    port,
    ports: givenPort === undefined ? ports : [port],
    encap: encapFrom(backend, values.vni ?? config.vni, values.mac ?? config.mac),
    mtu: numberWithin('--mtu', mtu, leastMtu, MAX_MTU),
    routes,
    ingressCheck: checkFrom(values['ingress-check']),
  }
}

/** MTU of the TUN device on an Ethernet underlay. */
function mtuOf(backend: BackendName, outer: Family): number {
  return ETHERNET_MTU - BACKENDS[backend].overhead[outer]
}

/** The prefixes of both families that the flags give, or else the file. */
function chosen(
  name: 'network' | 'subnet',
  flags: readonly string[],
  field: string | undefined,
  field6: string | undefined,
): PrefixPair {
  const given = pairFrom(`--${name}`, flags)
  const fields = pairFrom(`${name} of --config`, field === undefined ? [] : [field])
  const name6 = name === 'network' ? 'ipv6Network' : 'ipv6Subnet'
  const fields6 = pairFrom(`${name6} of --config`, field6 === undefined ? [] : [field6])
  if (fields.ipv6 !== null) throw usage(`${name} of --config: ${field} is IPv6; name it ${name6}`)
  if (fields6.ipv4 !== null) throw usage(`${name6} of --config: ${field6} is IPv4; name it ${name}`)
  return { ipv4: given.ipv4 ?? fields.ipv4, ipv6: given.ipv6 ?? fields6.ipv6 }
}

/** Family of the outer packets: a host has one socket, and so all its peers one family. */
function outerFamily(publicIP: number | bigint | null, routes: readonly PeerRoute[]): Family {
  const first = publicIP ?? routes[0]?.host.address
  const family = first === undefined ? 4 : familyOf(first)
  const other = routes.find(({ host }) => familyOf(host.address) !== family)
  if (other === undefined) return family
  const where = publicIP === null ? 'another host' : '--public-ip'
  throw usage(
    `the host of ${formatPrefix(other.subnet)} is not IPv${family} as ${where} is; all are of one family`,
  )
}

function parseFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        backend: { type: 'string', default: 'udp' },
        direction: { type: 'string', default: 'auto' },
        network: { type: 'string', multiple: true, default: [] },
        subnet: { type: 'string', multiple: true, default: [] },
        route: { type: 'string', multiple: true, default: [] },
        config: { type: 'string' },
        'public-ip': { type: 'string' },
        port: { type: 'string' },
        mtu: { type: 'string' },
        vni: { type: 'string' },
        mac: { type: 'string' },
        'ingress-check': { type: 'string', default: 'off' },
        write: { type: 'string', short: 'w' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (cause) {
    throw usage(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

function backendFrom(name: string): BackendName {
  if (name === 'udp' || name === 'vxlan' || name === 'ipip') return name
  const isKnown = OTHER_BACKENDS.includes(name)
  const what = isKnown ? 'is not built into replay yet' : 'is no backend'
  throw usage(`--backend=${name} ${what}; replay knows udp, vxlan and ipip`)
}

function encapFrom(
  backend: BackendName,
  vni: string | number | undefined,
  mac: string | undefined,
): EncapChoice {
  if (backend !== 'vxlan') {
    if (vni !== undefined) throw usage('--vni is for --backend=vxlan')
    if (mac !== undefined) throw usage('--mac is for --backend=vxlan')
    return { kind: backend }
  }
  if (mac === undefined) {
    throw usage('the own MAC is not known; give --mac=MAC, as ip link show flannel.1 tells it')
  }
  return {
    kind: 'vxlan',
    vni: numberWithin('--vni', vni ?? VXLAN_VNI, 0, MAX_VNI),
    mac: macFrom('--mac', mac),
  }
}

function directionFrom(text: string): Direction {
  const direction = DIRECTIONS.find((name) => name === text)
  if (direction === undefined) {
    throw usage(`--direction=${text} is none of ${DIRECTIONS.join(', ')}`)
  }
  return direction
}

function checkFrom(text: string): IngressCheckMode {
  const mode = INGRESS_CHECKS.find((known) => known === text)
  if (mode !== undefined) return mode
  throw usage(`--ingress-check=${text} is none of ${INGRESS_CHECKS.join(', ')}`)
}

function readConfig(path: string): Config {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw usage(`--config=${path} cannot be read: ${why}`, cause)
  }
  const parsed = CONFIG.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `
  throw usage(`--config=${path}: ${where}${issue?.message ?? 'not an object of settings'}`)
}

interface RouteContext {
  readonly port: number
  readonly networks: PrefixPair
  readonly subnets: PrefixPair
  readonly backend: BackendName
}

function routesFrom(config: Config, flags: readonly string[], context: RouteContext): PeerRoute[] {
  const routes = new Map<string, PeerRoute>()
  for (const [subnet, host] of Object.entries(config.routes ?? {})) {
    const route = routeFrom(`route ${subnet} of --config`, subnet, host, context)
    routes.set(formatPrefix(route.subnet), route)
  }
  const given = new Set<string>()
  for (const flag of flags) {
    const [subnet, host, ...rest] = flag.split('=')
    if (subnet === undefined || host === undefined || rest.length > 0) {
      throw usage(`--route=${flag} is not SUBNET=HOST, for example 10.5.2.0/24=192.0.2.2`)
    }
    const route = routeFrom(`--route=${flag}`, subnet, host, context)
    const key = formatPrefix(route.subnet)
    if (given.has(key)) throw usage(`--route=${flag}: ${key} has a host already`)
    given.add(key)
    routes.set(key, route)
  }
  return [...routes.values()]
}

function routeFrom(label: string, subnetText: string, host: string, c: RouteContext): PeerRoute {
  const subnet = prefixFrom(label, subnetText)
  const own = isPrefix4(subnet) ? c.subnets.ipv4 : c.subnets.ipv6
  const key = formatPrefix(subnet)
  if (own === null) {
    const family = familyOf(subnet.addr)
    throw usage(`${label}: ${key} is IPv${family}, and no own IPv${family} subnet is given`)
  }
  checkInside(c.networks, label, subnet)
  if (key === formatPrefix(own)) throw usage(`${label}: ${key} is the own subnet`)
  return { subnet, ...peerFrom(label, host, c) }
}

function peerFrom(label: string, text: string, c: RouteContext): Omit<PeerRoute, 'subnet'> {
  if (c.backend === 'ipip') return { host: { address: addressFrom(label, text), port: c.port } }
  if (c.backend === 'udp') return { host: hostFrom(label, text, c.port) }
  const [host = '', mac] = text.split(/,(.*)/s)
  if (mac === undefined) {
    throw usage(`${label}: "${text}" lacks the MAC of the host's VTEP; write HOST,MAC`)
  }
  return { host: hostFrom(label, host, c.port), mac: macFrom(label, mac) }
}

function checkInside(networks: PrefixPair, label: string, subnet: Prefix | null): void {
  if (subnet === null) return
  const network = isPrefix4(subnet) ? networks.ipv4 : networks.ipv6
  if (network === null || isWithin(networks, subnet)) return
  throw usage(
    `${label}: ${formatPrefix(subnet)} is not within the network ${formatPrefix(network)}`,
  )
}
