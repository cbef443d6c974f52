import fc from 'fast-check'
import t from 'tap'
import { isHeddleError } from './errors.js'
import { annotationNames } from './kube/annotations.js'
import { environmentName, FLAGS } from './flag-table.js'
import { parseOptions } from './options.js'
import { MAX_QUEUES } from '../dataplane/index.js'
import { usageText } from './usage.js'

const DEFAULTS = {
  store: { kind: 'etcd' },
  etcd: {
    endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    prefix: '/coreos.com/network',
    keyFile: null,
    certFile: null,
    caFile: null,
    username: null,
    password: null,
  },
  kube: {
    apiUrl: null,
    kubeconfigFile: null,
    annotations: annotationNames('flannel.alpha.coreos.com'),
    netConfigPath: '/etc/kube-flannel/net-conf.json',
    setCondition: true,
  },
  ifaces: [],
  ifaceRegexes: [],
  ifaceCanReach: null,
  publicIP: null,
  publicIPv6: null,
  subnetFile: '/run/flannel/subnet.env',
  firewall: { masquerade: false, fullyRandom: true, forward: true, resyncMs: 5000 },
  blackholeRoute: false,
  renewMarginMs: 3_600_000,
  healthz: null,
  verbosity: 0,
  logFormat: 'klog',
  busyPollUs: 50,
  queues: 1,
  keepDevice: false,
  ingressCheck: 'leases',
  ingressAllow: [],
  offload: {
    'tun-offload': true,
    'tun-uso': true,
    'tun-gro': true,
    'tun-ring': true,
    'udp-segment': true,
    'udp-gro': true,
    maxRun: 128,
  },
  leaseTtlMs: 86_400_000,
}

/** A value of each built flag and what it makes of the options. */
const BUILT: readonly [string, string, object][] = [
  [
    'etcd-endpoints',
    'https://a:1,https://b:2,',
    { etcd: { endpoints: ['https://a:1', 'https://b:2'] } },
  ],
  ['etcd-prefix', '/x//y/', { etcd: { prefix: '/x/y' } }],
  ['etcd-cafile', '/ca', { etcd: { caFile: '/ca' } }],
  ['etcd-username', 'u', { etcd: { username: 'u' } }],
  ['etcd-password', 'p', { etcd: { password: 'p' } }],
  ['iface', 'eth0', { ifaces: ['eth0'] }],
  ['iface-regex', '^eth.*', { ifaceRegexes: ['^eth.*'] }],
  ['iface-can-reach', '192.0.2.1', { ifaceCanReach: '192.0.2.1' }],
  ['public-ip', '192.0.2.1', { publicIP: '192.0.2.1' }],
  ['public-ipv6', 'fd00::1', { publicIPv6: 'fd00::1' }],
  ['subnet-file', '/tmp/s.env', { subnetFile: '/tmp/s.env' }],
  ['subnet-lease-renew-margin', '1439', { renewMarginMs: 1439 * 60_000 }],
  ['ip-masq', 'true', { firewall: { masquerade: true, forward: true } }],
  ['ip-masq-fully-random-disable', '1', { firewall: { fullyRandom: false } }],
  ['iptables-forward-rules', 'false', { firewall: { forward: false } }],
  ['iptables-resync', '60', { firewall: { resyncMs: 60_000 } }],
  ['ip-blackhole-route', 'T', { blackholeRoute: true }],
  ['healthz-port', '0x1f91', { healthz: { ip: '0.0.0.0', port: 8081 } }],
  ['v', '10', { verbosity: 10 }],
  ['kube-subnet-mgr', 'true', { store: { kind: 'kubernetes' } }],
  ['kube-api-url', 'https://k', { kube: { apiUrl: 'https://k' } }],
  ['kubeconfig-file', '/k', { kube: { kubeconfigFile: '/k' } }],
  [
    'kube-annotation-prefix',
    'org.com/x',
    { kube: { annotations: { publicIP: 'org.com/x-public-ip' } } },
  ],
  ['net-config-path', '/n', { kube: { netConfigPath: '/n' } }],
  ['set-node-network-unavailable', 'false', { kube: { setCondition: false } }],
  ['store', 'file:/var/lib/h', { store: { kind: 'file', directory: '/var/lib/h' } }],
  ['log-format', 'json', { logFormat: 'json' }],
  ['busy-poll-us', '0', { busyPollUs: 0 }],
  ['queues', '16', { queues: 16 }],
  ['ingress-check', 'strict', { ingressCheck: 'strict' }],
  [
    'ingress-allow',
    '10.5.2.0/24=203.0.113.7',
    { ingressAllow: [{ addr: 0x0a050200, len: 24, from: 0xcb007107 }] },
  ],
  ['tun-offload', 'false', { offload: { 'tun-offload': false, 'tun-uso': true } }],
  ['tun-uso', 'f', { offload: { 'tun-uso': false, 'tun-gro': true } }],
  ['tun-gro', '0', { offload: { 'tun-gro': false, 'tun-ring': true } }],
  ['tun-ring', 'F', { offload: { 'tun-ring': false, 'udp-segment': true } }],
  ['udp-segment', 'false', { offload: { 'udp-segment': false, 'udp-gro': true } }],
  ['udp-gro', 'FALSE', { offload: { 'udp-gro': false, 'tun-offload': true } }],
  ['udp-segment-max', '64', { offload: { maxRun: 64 } }],
  ['lease-ttl-seconds', '10', { leaseTtlMs: 10_000 }],
]

/** Every flag of flannel 0.28 with its default there, and klog's three. */
const FLANNEL: Readonly<Record<string, unknown>> = {
  'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
  'etcd-prefix': '/coreos.com/network',
  'etcd-keyfile': '',
  'etcd-certfile': '',
  'etcd-cafile': '',
  'etcd-username': '',
  'etcd-password': '',
  iface: [],
  'iface-regex': [],
  'iface-can-reach': '',
  'public-ip': '',
  'public-ipv6': '',
  'subnet-file': '/run/flannel/subnet.env',
  'subnet-lease-renew-margin': 60,
  'ip-masq': false,
  'ip-masq-fully-random-disable': false,
  'iptables-forward-rules': true,
  'iptables-resync': 5,
  'ip-blackhole-route': false,
  'kube-subnet-mgr': false,
  'kube-api-url': '',
  'kubeconfig-file': '',
  'kube-annotation-prefix': 'flannel.alpha.coreos.com',
  'net-config-path': '/etc/kube-flannel/net-conf.json',
  'set-node-network-unavailable': true,
  'healthz-ip': '0.0.0.0',
  'healthz-port': 0,
  version: false,
  v: 0,
  vmodule: '',
  log_backtrace_at: '',
}

t.test('the table holds all of flannel with its defaults', (t) => {
  const flannels = FLAGS.filter((flag) => flag.origin === 'flannel')
  t.same(Object.fromEntries(flannels.map((flag) => [flag.name, flag.byDefault])), FLANNEL)
  t.equal(new Set(FLAGS.map((flag) => flag.name)).size, FLAGS.length, 'no name twice')
  t.end()
})

t.test('flags of klog are taken, and named as without effect', (t) => {
  const { warnings } = parseOptions(['--vmodule=x=1'], { FLANNELD_LOG_BACKTRACE_AT: 'x.go:1' })
  t.match(warnings, [
    /^ignoring --vmodule=x=1: it names files of flannel/,
    /^ignoring FLANNELD_LOG_BACKTRACE_AT=x\.go:1: it names a line of flannel/,
  ])
  t.same(parseOptions(['--vmodule=', '-log_backtrace_at', ''], {}).warnings, [])
  t.end()
})

t.test('defaults', (t) => {
  const { options, action, warnings } = parseOptions([], {})
  t.strictSame(options, DEFAULTS)
  t.equal(action, 'run')
  t.same(warnings, [])
  t.end()
})

t.test('each built flag, from the command line and from the environment', (t) => {
  for (const [name, value, want] of BUILT) {
    const variable = `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`
    t.match(parseOptions([`--${name}=${value}`], {}).options, want, name)
    // A boolean's value follows after `=` only.
    const isBool = FLAGS.some((flag) => flag.name === name && flag.type === 'bool')
    if (!isBool) t.match(parseOptions([`-${name}`, value], {}).options, want, name)
    t.match(parseOptions([], { [variable]: value }).options, want, variable)
    t.strictSame(parseOptions([], { [variable]: '' }).options, DEFAULTS, `${variable} empty`)
  }
  t.match(parseOptions(['--etcd-keyfile=/k', '--etcd-certfile=/c'], {}).options.etcd, {
    keyFile: '/k',
    certFile: '/c',
  })
  t.same(parseOptions(['--healthz-ip=::1', '--healthz-port=80'], {}).options.healthz, {
    ip: '::1',
    port: 80,
  })
  t.equal(parseOptions(['--healthz-port=-1'], {}).options.healthz, null)
  t.end()
})

t.test('command line before environment', (t) => {
  const env = { FLANNELD_IFACE: 'eth1,eth2', FLANNELD_V: '3', FLANNELD_VERSION: 'true' }
  t.match(parseOptions([], env), {
    action: 'run',
    options: { ifaces: ['eth1,eth2'], verbosity: 3 },
  })
  const { options } = parseOptions(['--iface=a', '--iface=b', '-v=1'], env)
  t.same(options.ifaces, ['a', 'b'])
  t.equal(options.verbosity, 1)
  const wrong = { FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '7' }
  t.equal(
    parseOptions(['--subnet-lease-renew-margin=60'], wrong).options.renewMarginMs,
    3_600_000,
    'even when it says the default',
  )
  t.end()
})

t.test('what is not understood is a warning', (t) => {
  const env = { FLANNELD_HEALTHZ_PORT: 'http', FLANNELD_IP_MASQ: 'maybe' }
  const { options, warnings } = parseOptions(['-v', '1', 'run', '--etcd-password=hunter2'], env)
  t.strictSame(options, { ...DEFAULTS, verbosity: 1 })
  t.match(warnings, [/"run" and all behind it/, /FLANNELD_.*/, /FLANNELD_.*/])
  t.match(warnings.join(), /FLANNELD_HEALTHZ_PORT="http": must be a whole number/)
  t.match(warnings.join(), /FLANNELD_IP_MASQ="maybe": must be true or false/)
  t.notMatch(warnings.join(), /hunter2/)
  t.end()
})

t.test('help and version', (t) => {
  t.equal(parseOptions(['--help'], { FLANNELD_IP_MASQ: 'true' }).action, 'help')
  t.equal(parseOptions(['-version'], { FLANNELD_IP_MASQ: 'true' }).action, 'version')
  t.equal(parseOptions(['-version=false'], {}).action, 'run')
  t.end()
})

t.test('Kubernetes', (t) => {
  t.strictSame(
    parseOptions(['--kube-subnet-mgr=false'], { FLANNELD_KUBE_SUBNET_MGR: 'true' }).options,
    DEFAULTS,
    'the command line takes back what the environment asks',
  )
  t.throws(() => parseOptions(['--kube-subnet-mgr', '--store=file:/s'], {}), {
    code: 'HEDDLE_USAGE',
    message: '--kube-subnet-mgr and --store=file:/s exclude each other',
  })
  t.throws(() => parseOptions(['--kube-annotation-prefix=Org.com'], {}), {
    code: 'HEDDLE_USAGE',
    message: /--kube-annotation-prefix=Org\.com/,
  })
  t.end()
})

t.test('values out of range', (t) => {
  const cases: readonly [string[], RegExp][] = [
    [['--subnet-lease-renew-margin=0'], /write a number from 1 to 1439/],
    [['--subnet-lease-renew-margin=1440'], /=1440 is out of range/],
    [['--queues=0'], /from 1 to 16/],
    [['--ingress-check=all'], /write leases, strict, off/],
    [['--public-ipv6=192.0.2.1'], /no IPv6 address/],
    [['--ingress-allow=10.5.2.0/24'], /10\.5\.2\.0\/24=203\.0\.113\.7/],
    [['--ingress-allow=10.5.2.0=203.0.113.7'], /write one such as/],
    [['--ingress-allow=10.5.2.0/24=host'], /write one such as/],
    [['--ingress-allow=10.5.2.0/24=203.0.113.7=8'], /write one such as/],
    [[`--queues=${String(MAX_QUEUES + 1)}`], /from 1 to 16/],
    [['--iptables-resync=-1'], /from 0 to 86400/],
    [['--healthz-port=65536'], /healthz-port=65536/],
    [['--healthz-port=80', '--healthz-ip=localhost'], /healthz-ip=localhost/],
    [['--busy-poll-us=-1'], /busy-poll-us/],
    [['--udp-segment-max=0'], /udp-segment-max/],
    [['--udp-segment-max=129'], /from 1 to 128/],
    [['--lease-ttl-seconds=0'], /lease-ttl-seconds/],
    [['--store=consul'], /--store=consul is no store; write etcd or file:DIR/],
    [['--store=file:'], /file:DIR/],
    [['--log-format=xml'], /klog or json/],
    [['--etcd-endpoints=,'], /etcd-endpoints is empty/],
    [['--etcd-prefix='], /etcd-prefix is empty/],
    [['--etcd-keyfile=/k'], /belong together/],
    [['--etcd-certfile=/c'], /belong together/],
    [['--public-ip=eth0'], /public-ip=eth0 is no IPv4 address/],
    [['--public-ip=fd00::1'], /no IPv4 address/],
    [['--subnet-file='], /subnet-file is empty/],
    [['--nope'], /not defined: -nope/],
  ]
  for (const [argv, message] of cases) {
    t.throws(() => parseOptions(argv, {}), { code: 'HEDDLE_USAGE', message }, argv.join(' '))
  }
  t.end()
})

t.test('settings tell every flag and no secret', (t) => {
  const { settings } = parseOptions(
    ['--etcd-password=hunter2', '--etcd-endpoints=https://u:p/w@h:1,https://u:p@x@h:2', '-v=2'],
    {},
  )
  t.equal(settings.length, FLAGS.length)
  t.ok(settings.includes('v=2'))
  t.ok(settings.includes('etcd-password=********'))
  t.ok(settings.includes('etcd-prefix=/coreos.com/network'))
  t.notMatch(settings.join(' '), /hunter2|p@x|p\/w/)
  t.ok(parseOptions([], {}).settings.includes('etcd-password='))
  t.end()
})

t.test('usage tells every flag that is not hidden', (t) => {
  const text = usageText()
  for (const flag of FLAGS) {
    t.equal(text.includes(`  --${flag.name}`), flag.isHidden !== true, flag.name)
    const value = String(flag.byDefault)
    if (flag.isHidden !== true && value !== '') t.ok(text.includes(value), `${flag.name} default`)
  }
  t.match(text, /Heddle's own:\n {2}--store string/)
  t.end()
})

t.test('any arguments give options or a usage error', (t) => {
  const words = FLAGS.flatMap(({ name }) => [`--${name}`, `-${name}=`, `--${name}=1`])
  const argument = fc.oneof(fc.constantFrom(...words), fc.string())
  fc.assert(
    fc.property(
      fc.array(argument),
      fc.dictionary(fc.constantFrom(...FLAGS.map(environmentName)), fc.string()),
      (argv, env) => {
        try {
          parseOptions(argv, env)
          return true
        } catch (error) {
          return isHeddleError(error, 'HEDDLE_USAGE')
        }
      },
    ),
    { numRuns: 1000 },
  )
  t.pass('for all arguments tried')
  t.end()
})
