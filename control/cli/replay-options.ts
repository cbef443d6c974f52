/**
 * What `heddle replay` is asked to do: flags and an optional JSON file, checked in full before the
 * first packet, so that every mistake is one clear message.
 *
 * The file says what a host knows: `{"network", "subnet", "publicIP", "port", "mtu", "routes"}`,
 * with routes as `{"10.5.2.0/24": "192.0.2.2"}`, and `"vni"` and `"mac"` for VXLAN. Flags win over the
 * file; their routes are added.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import {
  type EncapChoice,
  INGRESS_CHECKS,
  type IngressCheckMode,
  isStation,
  type Mac,
  parseMac,
  UDP_OVERHEAD,
  UDP_PORT,
  VXLAN_OVERHEAD,
  VXLAN_PORT,
  VXLAN_VNI,
} from '../../dataplane/index.js'
import { HeddleError } from '../errors.js'
import { contains4, formatPrefix4, parseAddr4, parsePrefix4, type Prefix4 } from '../prefix.js'

export type Direction = 'egress' | 'ingress' | 'auto'

/** A subnet and the host its packets go to. */
export interface PeerRoute {
  readonly subnet: Prefix4
  /** Address, uint32, host order. */
  readonly host: number
  /** UDP port. */
  readonly port: number
  /** MAC address of its VTEP; only with VXLAN. */
  readonly mac?: Mac
}

export interface ReplaySettings {
  readonly input: string
  readonly output: string | null
  readonly isJson: boolean
  readonly direction: Direction
  readonly encap: EncapChoice
  readonly subnet: Prefix4
  /** Own outer address, uint32, host order; null = unknown, then every datagram counts as ours. */
  readonly publicIP: number | null
  readonly port: number
  /** MTU of the TUN device. */
  readonly mtu: number
  readonly routes: readonly PeerRoute[]
  /** Which sources packets from outside may have, by the routes. */
  readonly ingressCheck: IngressCheckMode
}

const DIRECTIONS: readonly Direction[] = ['egress', 'ingress', 'auto']
/** Backends that flannel knows and replay does not. */
const OTHER_BACKENDS = ['ipip', 'wireguard']
const ETHERNET_MTU = 1500
const MIN_MTU = 68
const MAX_MTU = 65535
const MAX_VNI = 0xff_ffff
/** What a backend's port and MTU are when nobody says. */
const BACKENDS = {
  udp: { port: UDP_PORT, mtu: ETHERNET_MTU - UDP_OVERHEAD[4] },
  vxlan: { port: VXLAN_PORT, mtu: ETHERNET_MTU - VXLAN_OVERHEAD[4] },
} as const
type BackendName = keyof typeof BACKENDS

export const REPLAY_USAGE = `usage: heddle replay IN.pcap --subnet=CIDR [options]

Runs each packet of a capture through the engine and prints what becomes of it.

  --backend=udp            the encapsulation: udp or vxlan
  --subnet=CIDR            subnet of the host that the engine stands for
  --route=SUBNET=HOST      where a subnet's packets go, as HOST or HOST:PORT; may be repeated. With
                           vxlan followed by the MAC of its flannel.N: HOST,MAC or HOST:PORT,MAC
  --vni=N                  VXLAN network identifier (default ${VXLAN_VNI})
  --mac=MAC                MAC of the own flannel.N; needed with vxlan
  --network=CIDR           the whole network; subnets outside it are then refused
  --public-ip=ADDR         own outer address; datagrams to others are left out
  --port=N                 UDP port of the overlay (default ${BACKENDS.udp.port}, vxlan ${BACKENDS.vxlan.port})
  --mtu=N                  MTU of the TUN device (default ${BACKENDS.udp.mtu}, vxlan ${BACKENDS.vxlan.mtu})
  --ingress-check=off      which sources packets from outside may have: leases or strict, by the
                           routes given, or off for any
  --config=FILE.json       the same as JSON: network, subnet, publicIP, port, mtu, routes,
                           vni, mac
  --direction=auto         egress: packets go to the TUN device; ingress: datagrams to the port
                           arrive from the underlay; auto: egress for raw-IP captures, without
                           the packets for the own subnet, and ingress for others
  -w, --write=OUT.pcap     write what comes out, as raw IP
  --json                   one JSON object per packet, and a summary at the end
`

const CONFIG = z.strictObject({
  network: z.string().optional(),
  subnet: z.string().optional(),
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
  const standard = BACKENDS[backend]
  const config = values.config === undefined ? {} : readConfig(values.config)
  const port = numberWithin('--port', values.port ?? config.port ?? standard.port, 1, 65535)
  const network = optional(prefixFrom, '--network', values.network ?? config.network)
  const subnetText = values.subnet ?? config.subnet
  if (subnetText === undefined) {
    throw usage('the own subnet is not known; give --subnet=CIDR, for example 10.5.1.0/24')
  }
  const subnet = prefixFrom('--subnet', subnetText)
  checkInside(network, '--subnet', subnet)
  return {
    input,
    output: values.write ?? null,
    isJson: values.json,
    direction: directionFrom(values.direction),
    subnet,
    publicIP: optional(addressFrom, '--public-ip', values['public-ip'] ?? config.publicIP),
    port,
    encap: encapFrom(backend, values.vni ?? config.vni, values.mac ?? config.mac),
    mtu: numberWithin('--mtu', values.mtu ?? config.mtu ?? standard.mtu, MIN_MTU, MAX_MTU),
    routes: routesFrom(config, values.route, { port, network, subnet, backend }),
    ingressCheck: checkFrom(values['ingress-check']),
  }
}

function parseFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        backend: { type: 'string', default: 'udp' },
        direction: { type: 'string', default: 'auto' },
        network: { type: 'string' },
        subnet: { type: 'string' },
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
  if (name === 'udp' || name === 'vxlan') return name
  const isKnown = OTHER_BACKENDS.includes(name)
  const what = isKnown ? 'is not built yet' : 'is no backend'
  throw usage(`--backend=${name} ${what}; replay knows udp and vxlan`)
}

function encapFrom(
  backend: BackendName,
  vni: string | number | undefined,
  mac: string | undefined,
): EncapChoice {
  if (backend === 'udp') {
    if (vni !== undefined) throw usage('--vni is for --backend=vxlan')
    if (mac !== undefined) throw usage('--mac is for --backend=vxlan')
    return { kind: 'udp' }
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

function macFrom(label: string, text: string): Mac {
  const mac = parseMac(text)
  if (mac !== null && isStation(mac)) return mac
  throw usage(`${label}: "${text}" is not the MAC address of a station`)
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
  readonly network: Prefix4 | null
  readonly subnet: Prefix4
  readonly backend: BackendName
}

function routesFrom(config: Config, flags: readonly string[], context: RouteContext): PeerRoute[] {
  const routes = new Map<string, PeerRoute>()
  for (const [subnet, host] of Object.entries(config.routes ?? {})) {
    const route = routeFrom(`route ${subnet} of --config`, subnet, host, context)
    routes.set(formatPrefix4(route.subnet), route)
  }
  const given = new Set<string>()
  for (const flag of flags) {
    const [subnet, host, ...rest] = flag.split('=')
    if (subnet === undefined || host === undefined || rest.length > 0) {
      throw usage(`--route=${flag} is not SUBNET=HOST, for example 10.5.2.0/24=192.0.2.2`)
    }
    const route = routeFrom(`--route=${flag}`, subnet, host, context)
    const key = formatPrefix4(route.subnet)
    if (given.has(key)) throw usage(`--route=${flag}: ${key} has a host already`)
    given.add(key)
    routes.set(key, route)
  }
  return [...routes.values()]
}

function routeFrom(label: string, subnetText: string, host: string, c: RouteContext): PeerRoute {
  const subnet = prefixFrom(label, subnetText)
  checkInside(c.network, label, subnet)
  const key = formatPrefix4(subnet)
  if (key === formatPrefix4(c.subnet)) throw usage(`${label}: ${key} is the own subnet`)
  return { subnet, ...hostFrom(label, host, c) }
}

function hostFrom(label: string, text: string, c: RouteContext): Omit<PeerRoute, 'subnet'> {
  if (c.backend === 'udp') return endpointFrom(label, text, c.port)
  const [endpoint = '', mac] = text.split(/,(.*)/s)
  if (mac === undefined) {
    throw usage(`${label}: "${text}" lacks the MAC of the host's VTEP; write HOST,MAC`)
  }
  return { ...endpointFrom(label, endpoint, c.port), mac: macFrom(label, mac) }
}

function endpointFrom(label: string, text: string, port: number): { host: number; port: number } {
  const [address, portText, ...rest] = text.split(':')
  const host = address === undefined ? null : parseAddr4(address)
  if (host === null || rest.length > 0) {
    throw usage(`${label}: "${text}" is not an IPv4 address or ADDRESS:PORT`)
  }
  if (portText === undefined) return { host, port }
  return { host, port: numberWithin(label, portText, 1, 65535) }
}

function checkInside(network: Prefix4 | null, label: string, subnet: Prefix4): void {
  if (network === null) return
  if (subnet.len < network.len || !contains4(network, subnet.addr)) {
    const outside = `${formatPrefix4(subnet)} is not within the network ${formatPrefix4(network)}`
    throw usage(`${label}: ${outside}`)
  }
}

/** A prefix without host bits: a subnet with some is more likely a mistake than meant. */
function prefixFrom(label: string, text: string): Prefix4 {
  const prefix = parsePrefix4(text)
  if (prefix === null) throw usage(`${label}: "${text}" is not an IPv4 prefix such as 10.5.1.0/24`)
  if (formatPrefix4(prefix) !== text) {
    throw usage(`${label}: ${text} has host bits set; write ${formatPrefix4(prefix)}`)
  }
  return prefix
}

function addressFrom(label: string, text: string): number {
  const address = parseAddr4(text)
  if (address === null) throw usage(`${label}: "${text}" is not an IPv4 address`)
  return address
}

function optional<T>(
  parse: (label: string, text: string) => T,
  label: string,
  text: string | undefined,
): T | null {
  return text === undefined ? null : parse(label, text)
}

function numberWithin(label: string, value: string | number, min: number, max: number): number {
  const isNumber = typeof value === 'number' || /^\d+$/.test(value)
  const number = isNumber ? Number(value) : Number.NaN
  if (Number.isInteger(number) && number >= min && number <= max) return number
  throw usage(`${label}: ${value} is not a whole number within ${min}..${max}`)
}

function usage(message: string, cause?: unknown): HeddleError {
  return new HeddleError('HEDDLE_USAGE', message, { cause })
}
