import t from 'tap'
import { NO_PUBLIC_IP, type LeaseAttrs } from '../lease.js'
import { annotationChanges, annotationNames, overwriteFaults } from './annotations.js'

t.test('F67 prefixes', (t) => {
  const taken: readonly [string, string][] = [
    ['flannel.alpha.coreos.com', 'flannel.alpha.coreos.com/'],
    ['flannel.alpha.coreos.com/', 'flannel.alpha.coreos.com/'],
    ['flannel.alpha.coreos.com/prefix', 'flannel.alpha.coreos.com/prefix-'],
    ['flannel.alpha.coreos.com/prefix-', 'flannel.alpha.coreos.com/prefix-'],
    ['org.com', 'org.com/'],
    ['org9.com', 'org9.com/'],
    ['org.com/9', 'org.com/9-'],
  ]
  for (const [given, prefix] of taken) {
    t.match(annotationNames(given), {
      managed: `${prefix}kube-subnet-manager`,
      backendType: `${prefix}backend-type`,
      backendData: `${prefix}backend-data`,
      backendV6Data: `${prefix}backend-v6-data`,
      publicIP: `${prefix}public-ip`,
      publicIPv6: `${prefix}public-ipv6`,
      publicIPOverwrite: `${prefix}public-ip-overwrite`,
      publicIPv6Overwrite: `${prefix}public-ipv6-overwrite`,
      nodePublicIP: `${prefix}node-public-ip`,
      nodePublicIPv6: `${prefix}node-public-ipv6`,
    })
  }
  const refused = [
    'org',
    'org/',
    'org/prefix',
    'ORG.com',
    'org.com/PREFIX',
    'a.b/c/d',
    '',
    '/',
    'x y.z',
  ]
  for (const given of refused) {
    const message = `--kube-annotation-prefix=${given} is no prefix`
    t.throws(() => annotationNames(given), { code: 'HEDDLE_USAGE', message }, given)
  }
  t.end()
})

const NAMES = annotationNames('f.io')
const MANAGED = { 'f.io/kube-subnet-manager': 'true' }

const changes = (attrs: Partial<LeaseAttrs>, present: Record<string, string> = {}) =>
  annotationChanges(NAMES, new Map(Object.entries(present)), {
    publicIP: '192.0.2.1',
    publicIPv6: null,
    backendType: '',
    ...attrs,
  })

t.test('what each backend publishes, as flannel does', (t) => {
  const cases: readonly [string, Partial<LeaseAttrs>, Record<string, string>][] = [
    ['udp', {}, { 'backend-type': '', 'backend-data': 'null', 'public-ip': '192.0.2.1' }],
    [
      'vxlan, IPv4 over IPv6',
      { backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: 'a' }, publicIPv6: '2001:db8::1' },
      {
        'backend-type': 'vxlan',
        'backend-data': '{"VNI":1,"VtepMAC":"a"}',
        'public-ip': '192.0.2.1',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'vxlan, IPv6 over IPv4',
      { backendType: 'vxlan', backendV6Data: {} },
      { 'backend-type': 'vxlan', 'backend-v6-data': '{}', 'public-ip': '192.0.2.1' },
    ],
    [
      'vxlan, both families',
      { backendType: 'vxlan', backendData: {}, backendV6Data: [1], publicIPv6: '2001:db8::1' },
      {
        'backend-type': 'vxlan',
        'backend-data': '{}',
        'public-ip': '192.0.2.1',
        'backend-v6-data': '[1]',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'vxlan, IPv6 alone',
      {
        backendType: 'vxlan',
        backendV6Data: {},
        publicIP: NO_PUBLIC_IP,
        publicIPv6: '2001:db8::1',
      },
      { 'backend-type': 'vxlan', 'backend-v6-data': '{}', 'public-ipv6': '2001:db8::1' },
    ],
    [
      'host-gw, both families',
      { backendType: 'host-gw', publicIPv6: '2001:db8::1' },
      {
        'backend-type': 'host-gw',
        'backend-data': 'null',
        'public-ip': '192.0.2.1',
        'backend-v6-data': 'null',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'udp with IPv6 inside, over IPv4',
      { backendV6Data: { IPv6: true } },
      {
        'backend-type': '',
        'backend-data': 'null',
        'public-ip': '192.0.2.1',
        'backend-v6-data': '{"IPv6":true}',
      },
    ],
    [
      'extension, escaped as Go does',
      { backendType: 'extension', backendData: '<a&b>' },
      {
        'backend-type': 'extension',
        'backend-data': '"\\u003ca\\u0026b\\u003e"',
        'public-ip': '192.0.2.1',
      },
    ],
  ]
  for (const [name, attrs, wanted] of cases) {
    const prefixed = Object.entries(wanted).map(([key, value]) => [`f.io/${key}`, value])
    t.same(changes(attrs), { ...MANAGED, ...Object.fromEntries(prefixed) }, name)
  }
  t.end()
})

t.test('only differences are written, and what is not published any more goes', (t) => {
  const there = {
    ...MANAGED,
    'f.io/backend-type': '',
    'f.io/backend-data': 'null',
    'f.io/public-ip': '192.0.2.1',
    'f.io/unknown': 'stays',
    'g.io/public-ip': 'of another network',
  }
  t.same(changes({}, there), {})
  t.same(changes({ publicIP: '192.0.2.9' }, there), { 'f.io/public-ip': '192.0.2.9' })
  const dual = { ...there, 'f.io/backend-v6-data': '{}', 'f.io/public-ipv6': '2001:db8::1' }
  t.same(changes({}, dual), { 'f.io/backend-v6-data': null, 'f.io/public-ipv6': null })
  t.end()
})

t.test('F66 what a person overwrites is published in place of the own address', (t) => {
  const overwritten = {
    'f.io/public-ip-overwrite': '198.51.100.1',
    'f.io/public-ipv6-overwrite': '2001:db8::9',
  }
  const host = { backendType: 'host-gw', publicIPv6: '2001:db8::1' }
  t.match(changes(host, overwritten), {
    'f.io/public-ip': '198.51.100.1',
    'f.io/public-ipv6': '2001:db8::9',
  })
  for (const text of ['', 'nat.example.com ', '2001:db8::1']) {
    const present = { 'f.io/public-ip-overwrite': text }
    t.match(changes(host, present), { 'f.io/public-ip': '192.0.2.1' })
    const faults = overwriteFaults(NAMES, new Map(Object.entries(present)))
    t.equal(faults.length, text === '' ? 0 : 1, text)
  }
  t.same(overwriteFaults(NAMES, new Map(Object.entries(overwritten))), [])
  t.end()
})
