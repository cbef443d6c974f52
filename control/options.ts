/**
 * From command line and environment to the options of one run. Pure.
 *
 * The command line wins over FLANNELD_* variables, empty variables count as unset, a variable that
 * cannot be parsed is a warning and its default stays.
 */
import { isIP, isIPv4 } from 'node:net'
import { posix } from 'node:path'
import {
  INGRESS_CHECKS,
  MAX_RUN,
  type IngressCheckMode,
  type OffloadWish,
  type SourceException,
} from '../dataplane/index.js'
import { HeddleError } from './errors.js'
import type { FirewallOptions } from './firewall/firewall.js'
import { environmentName, FLAGS, type Flag } from './flag-table.js'
import { annotationNames, type AnnotationNames } from './kube/annotations.js'
import { NEEDS, parseFlags, parseFlagValue, type FlagValue } from './flags.js'
import { parseAddr4, parseAddr6, parsePrefix4, parsePrefix6 } from './prefix.js'

export { DEFAULT_SUBNET_FILE } from './flag-table.js'

export type StoreChoice =
  | { readonly kind: 'etcd' }
  | { readonly kind: 'file'; readonly directory: string }
  | { readonly kind: 'kubernetes' }

export interface EtcdOptions {
  readonly endpoints: readonly string[]
  /** Key prefix without a slash at its end. */
  readonly prefix: string
  /** Paths; null = not given. Key and certificate come together. */
  readonly keyFile: string | null
  readonly certFile: string | null
  readonly caFile: string | null
  /** Null = no authentication. */
  readonly username: string | null
  readonly password: string | null
}

export interface KubeOptions {
  /** Address of the API, and path of a kubeconfig file; null = not given. */
  readonly apiUrl: string | null
  readonly kubeconfigFile: string | null
  readonly annotations: AnnotationNames
  readonly netConfigPath: string
  /** Whether the condition NetworkUnavailable of the node is cleared. */
  readonly setCondition: boolean
}

export interface Options {
  readonly store: StoreChoice
  readonly etcd: EtcdOptions
  readonly kube: KubeOptions
  /** Values of --iface in order. */
  readonly ifaces: readonly string[]
  /** Values of --iface-regex in order. */
  readonly ifaceRegexes: readonly string[]
  /** Address of either family, null = not given. */
  readonly ifaceCanReach: string | null
  /** Dotted quad, null = not given. */
  readonly publicIP: string | null
  /** IPv6 address, null = not given. */
  readonly publicIPv6: string | null
  readonly subnetFile: string
  readonly firewall: FirewallOptions
  /** Whether addresses of the own subnet that no pod has lead nowhere. */
  readonly blackholeRoute: boolean
  /** Time before its expiry at which the lease is renewed, ms. */
  readonly renewMarginMs: number
  /** Address and port of the health server, null = none. */
  readonly healthz: { readonly ip: string; readonly port: number } | null
  readonly verbosity: number
  readonly logFormat: 'klog' | 'json'
  /** Microseconds. */
  readonly busyPollUs: number
  /** Engines, 1 to 16. */
  readonly queues: number
  /** Whether TUN devices stay when the daemon ends. */
  readonly keepDevice: boolean
  /** Which sources packets from outside may have. */
  readonly ingressCheck: IngressCheckMode
  /** Hosts that may send with sources that are leased to another address. */
  readonly ingressAllow: readonly SourceException[]
  /** Offloads that may be used. */
  readonly offload: OffloadWish
  readonly leaseTtlMs: number
}

export interface ParsedOptions {
  /** `help` and `version` are done by printing; `options` then hold defaults. */
  readonly action: 'run' | 'help' | 'version'
  readonly options: Options
  /** Every flag as `name=value`, secrets masked, for the log. */
  readonly settings: readonly string[]
  /** Variables and arguments that were not understood and are ignored. */
  readonly warnings: readonly string[]
}

/**
 * Parses the options.
 * @param argv  arguments without program and script name
 * @param env   as process.env
 * @throws HeddleError HEDDLE_USAGE on a bad flag, a value out of range, or what is not built
 */
export function parseOptions(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedOptions {
  const { given, isHelp, rest } = parseFlags(FLAGS, argv)
  const action = isHelp ? 'help' : given.get('version') === true ? 'version' : 'run'
  if (action !== 'run') return { ...resolve(new Map()), action, warnings: [] }
  const warnings = rest.length === 0 ? [] : [`ignoring "${String(rest[0])}" and all behind it`]
  const values = new Map(given)
  for (const flag of FLAGS) {
    const fromCommandLine = given.has(flag.name)
    const variable = environmentName(flag)
    const text = env[variable]
    if (!fromCommandLine && text !== undefined && text !== '' && flag.name !== 'version') {
      const value = parseFlagValue(flag, text)
      if (value === null) warnings.push(`ignoring ${variable}="${text}": ${NEEDS[flag.type]}`)
      else values.set(flag.name, value)
    }
    const source = fromCommandLine ? `--${flag.name}` : variable
    const value = values.get(flag.name)
    if (flag.withoutEffect !== undefined && value !== undefined && value !== flag.byDefault) {
      warnings.push(`ignoring ${source}=${String(value)}: it ${flag.withoutEffect}`)
    }
  }
  return { ...resolve(values), action, warnings }
}

function usage(message: string): HeddleError {
  return new HeddleError('HEDDLE_USAGE', message)
}

/** Options from the values given and the defaults of the table, checked. */
function resolve(given: ReadonlyMap<string, FlagValue>): { options: Options; settings: string[] } {
  const values = new Map(FLAGS.map((flag) => [flag.name, given.get(flag.name) ?? flag.byDefault]))
  const text = (name: string) => String(values.get(name))
  const optional = (name: string) => text(name) || null
  const int = (name: string, min: number, max: number) => {
    const value = Number(values.get(name))
    if (value >= min && value <= max) return value
    throw usage(`--${name}=${value} is out of range; write a number from ${min} to ${max}`)
  }
  const bool = (name: string) => values.get(name) === true
  const texts = (name: string) => {
    const list = values.get(name)
    return Array.isArray(list) ? list.map(String).filter((element) => element !== '') : []
  }
  const options: Options = {
    store: parseStore(text('store'), bool('kube-subnet-mgr')),
    etcd: {
      endpoints: parseEndpoints(text('etcd-endpoints')),
      prefix: parsePrefix(text('etcd-prefix')),
      keyFile: optional('etcd-keyfile'),
      certFile: optional('etcd-certfile'),
      caFile: optional('etcd-cafile'),
      username: optional('etcd-username'),
      password: optional('etcd-password'),
    },
    kube: {
      apiUrl: optional('kube-api-url'),
      kubeconfigFile: optional('kubeconfig-file'),
      annotations: annotationNames(text('kube-annotation-prefix')),
      netConfigPath: text('net-config-path'),
      setCondition: bool('set-node-network-unavailable'),
    },
    ifaces: texts('iface'),
    ifaceRegexes: texts('iface-regex'),
    ifaceCanReach: optional('iface-can-reach'),
    publicIP: optional('public-ip'),
    publicIPv6: optional('public-ipv6'),
    subnetFile: text('subnet-file'),
    firewall: {
      masquerade: bool('ip-masq'),
      fullyRandom: !bool('ip-masq-fully-random-disable'),
      forward: bool('iptables-forward-rules'),
      resyncMs: int('iptables-resync', 0, 86_400) * 1000,
    },
    blackholeRoute: bool('ip-blackhole-route'),
    renewMarginMs: int('subnet-lease-renew-margin', 1, 1439) * 60_000,
    healthz: parseHealthz(text('healthz-ip'), int('healthz-port', -Infinity, 65535)),
    verbosity: int('v', -Infinity, Infinity),
    logFormat: parseLogFormat(text('log-format')),
    busyPollUs: int('busy-poll-us', 0, 1000),
    queues: int('queues', 1, 16),
    keepDevice: bool('keep-device'),
    offload: {
      'tun-offload': bool('tun-offload'),
      'tun-uso': bool('tun-uso'),
      'tun-gro': bool('tun-gro'),
      'tun-ring': bool('tun-ring'),
      'udp-segment': bool('udp-segment'),
      'udp-gro': bool('udp-gro'),
      maxRun: int('udp-segment-max', 1, MAX_RUN),
    },
    ingressCheck: parseIngressCheck(text('ingress-check')),
    ingressAllow: texts('ingress-allow').map(parseIngressAllow),
    leaseTtlMs: int('lease-ttl-seconds', 1, 365 * 86400) * 1000,
  }
  if ((options.etcd.keyFile === null) !== (options.etcd.certFile === null)) {
    throw usage('--etcd-keyfile and --etcd-certfile belong together; give both or neither')
  }
  if (options.publicIP !== null && !isIPv4(options.publicIP)) {
    throw usage(`--public-ip=${options.publicIP} is no IPv4 address`)
  }
  if (options.publicIPv6 !== null && parseAddr6(options.publicIPv6) === null) {
    throw usage(`--public-ipv6=${options.publicIPv6} is no IPv6 address`)
  }
  if (options.ifaceCanReach !== null && isIP(options.ifaceCanReach) === 0) {
    throw usage(`--iface-can-reach=${options.ifaceCanReach} is no IP address`)
  }
  if (options.subnetFile === '') throw usage('--subnet-file is empty; name a file')
  return { options, settings: FLAGS.map((flag) => setting(flag, values.get(flag.name))) }
}

function setting(flag: Flag, value: FlagValue | undefined): string {
  const text = String(value)
  if (flag.isSecret === true) return `${flag.name}=${text === '' ? '' : '********'}`
  return `${flag.name}=${text.replace(/([a-z]+:\/\/)?[^,\s]*@/gi, '$1********@')}`
}

function parseStore(text: string, isKubernetes: boolean): StoreChoice {
  if (text === 'etcd') return { kind: isKubernetes ? 'kubernetes' : 'etcd' }
  if (isKubernetes) throw usage(`--kube-subnet-mgr and --store=${text} exclude each other`)
  const directory = text.startsWith('file:') ? text.slice('file:'.length) : ''
  if (directory !== '') return { kind: 'file', directory }
  throw usage(`--store=${text} is no store; write etcd or file:DIR`)
}

function parseEndpoints(text: string): string[] {
  const endpoints = text.split(',').filter((endpoint) => endpoint !== '')
  if (endpoints.length > 0) return endpoints
  throw usage('--etcd-endpoints is empty; write at least one such as http://127.0.0.1:2379')
}

/** The prefix so that `<prefix>/config` is what Go's path.Join(prefix, "config") gives. */
function parsePrefix(text: string): string {
  if (text !== '') return posix.join(text, 'config').slice(0, -'/config'.length)
  throw usage('--etcd-prefix is empty; write one such as /coreos.com/network')
}

function parseHealthz(ip: string, port: number): Options['healthz'] {
  if (port <= 0) return null
  if (isIP(ip) !== 0) return { ip, port }
  throw usage(`--healthz-ip=${ip} is no IP address`)
}

function parseIngressCheck(text: string): IngressCheckMode {
  const mode = INGRESS_CHECKS.find((known) => known === text)
  if (mode !== undefined) return mode
  throw usage(`--ingress-check=${text} is no check; write ${INGRESS_CHECKS.join(', ')}`)
}

/** SUBNET=ADDRESS, as in 10.5.2.0/24=203.0.113.7; either may be of IPv6. */
function parseIngressAllow(text: string): SourceException {
  const [subnet = '', address = '', ...more] = text.split('=')
  const prefix = parsePrefix4(subnet) ?? parsePrefix6(subnet)
  const from = parseAddr4(address) ?? parseAddr6(address)
  if (prefix !== null && from !== null && more.length === 0) return { ...prefix, from }
  throw usage(`--ingress-allow=${text} is no exception; write one such as 10.5.2.0/24=203.0.113.7`)
}

function parseLogFormat(text: string): Options['logFormat'] {
  if (text === 'klog' || text === 'json') return text
  throw usage(`--log-format=${text} is no log format; write klog or json`)
}
