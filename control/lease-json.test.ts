import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { isHeddleError } from './errors.js'
import type { LeaseAttrs } from './lease.js'
import { formatLeaseAttrs, parseLeaseAttrs } from './lease-json.js'

// Values as flannel 0.28 writes them, from its documentation and tests.
const WRITTEN: readonly { name: string; json: string; attrs: LeaseAttrs }[] = [
  {
    name: 'udp',
    json: '{"PublicIP":"1.2.3.4","PublicIPv6":null}',
    attrs: { publicIP: '1.2.3.4', publicIPv6: null, backendType: '' },
  },
  {
    name: 'host-gw',
    json: '{"PublicIP":"172.30.0.11","PublicIPv6":null,"BackendType":"host-gw"}',
    attrs: { publicIP: '172.30.0.11', publicIPv6: null, backendType: 'host-gw' },
  },
  {
    name: 'host-gw, dual stack',
    json: '{"PublicIP":"172.30.0.11","PublicIPv6":"fd00:30::11","BackendType":"host-gw"}',
    attrs: { publicIP: '172.30.0.11', publicIPv6: 'fd00:30::11', backendType: 'host-gw' },
  },
  {
    name: 'vxlan',
    json: '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}',
    attrs: {
      publicIP: '192.168.64.3',
      publicIPv6: null,
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
    },
  },
  {
    name: 'vxlan, dual stack',
    json: '{"PublicIP":"192.168.64.3","PublicIPv6":"fd00:64::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"9a:01:02:03:04:05"}}',
    attrs: {
      publicIP: '192.168.64.3',
      publicIPv6: 'fd00:64::3',
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
      backendV6Data: { VNI: 1, VtepMAC: '9a:01:02:03:04:05' },
    },
  },
  {
    name: 'extension, with characters that Go escapes',
    json: '{"PublicIP":"172.30.0.11","PublicIPv6":null,"BackendType":"extension","BackendData":"\\u003ca\\u003e \\u0026 \\u2028\\n\\"\\\\ é"}',
    attrs: {
      publicIP: '172.30.0.11',
      publicIPv6: null,
      backendType: 'extension',
      backendData: '<a> & \u2028\n"\\ é',
    },
  },
]

for (const { name, json, attrs } of WRITTEN) {
  t.test(`${name}: both ways`, (t) => {
    t.equal(formatLeaseAttrs(attrs), json)
    t.same(parseLeaseAttrs(json), attrs)
    t.end()
  })
}

const READ: readonly [string, string, LeaseAttrs][] = [
  [
    'udp before 0.15',
    '{"PublicIP":"172.30.0.11"}',
    { publicIP: '172.30.0.11', publicIPv6: null, backendType: '' },
  ],
  [
    'vxlan before 0.14',
    '{"PublicIP":"192.168.64.3","BackendType":"vxlan","BackendData":{"VtepMAC":"c6:d2:32:6f:8f:44"}}',
    {
      publicIP: '192.168.64.3',
      publicIPv6: null,
      backendType: 'vxlan',
      backendData: { VtepMAC: 'c6:d2:32:6f:8f:44' },
    },
  ],
  [
    'other letter case, unknown fields, spaces',
    ' { "publicip" : "1.2.3.4", "PUBLICIPV6": null, "Extra": {"a":[1]}, "backendTYPE":"vxlan" } ',
    { publicIP: '1.2.3.4', publicIPv6: null, backendType: 'vxlan' },
  ],
  [
    'the later of two fields counts',
    '{"PublicIP":"1.2.3.4","publicIP":"5.6.7.8"}',
    { publicIP: '5.6.7.8', publicIPv6: null, backendType: '' },
  ],
  ['no PublicIP', '{}', { publicIP: '0.0.0.0', publicIPv6: null, backendType: '' }],
  [
    'null type, long IPv6',
    '{"PublicIP":"1.2.3.4","PublicIPv6":"FD00:0:0::1","BackendType":null}',
    { publicIP: '1.2.3.4', publicIPv6: 'fd00::1', backendType: '' },
  ],
]

for (const [name, json, attrs] of READ) {
  t.test(`reads ${name}`, (t) => {
    t.same(parseLeaseAttrs(json), attrs)
    t.end()
  })
}

const INVALID: readonly [string, RegExp][] = [
  ['', /not JSON/],
  ['{', /not JSON/],
  ['{"PublicIP":"1.2.3.4"}x', /not JSON/],
  ['null', /not a JSON object: null/],
  ['[]', /not a JSON object/],
  ['"1.2.3.4"', /not a JSON object/],
  ['{"PublicIP":null}', /PublicIP .*null/],
  ['{"PublicIP":"fd00::1"}', /PublicIP .*fd00::1/],
  ['{"PublicIP":"1.2.3"}', /PublicIP/],
  ['{"PublicIP":16909060}', /PublicIP/],
  ['{"PublicIP":"1.2.3.4","PublicIPv6":"1.2.3.4"}', /PublicIPv6/],
  ['{"PublicIP":"1.2.3.4","PublicIPv6":""}', /PublicIPv6/],
  ['{"PublicIP":"1.2.3.4","BackendType":1}', /BackendType/],
]

t.test('refuses', (t) => {
  for (const [json, message] of INVALID) {
    t.throws(() => parseLeaseAttrs(json), { code: 'HEDDLE_STORE_FORMAT', message }, json)
  }
  t.end()
})

t.test('deep nesting does not break the reader', (t) => {
  const deep = `{"PublicIP":"1.2.3.4","BackendData":${'['.repeat(1e5)}${']'.repeat(1e5)}}`
  try {
    t.equal(parseLeaseAttrs(deep).publicIP, '1.2.3.4')
  } catch (error) {
    t.ok(isHeddleError(error, 'HEDDLE_STORE_FORMAT'))
  }
  t.end()
})

t.test('properties', (t) => {
  const attrs = fc.record({
    publicIP: fc.ipV4(),
    publicIPv6: fc.constantFrom(null, 'fd00::1', '2001:db8::ffff'),
    backendType: fc.string(),
    backendData: fc.jsonValue({ noUnicodeString: false }),
  })
  fc.assert(
    fc.property(attrs, (value) => {
      const json = formatLeaseAttrs(value)
      // -0 is 0 in JSON.
      const want: unknown = JSON.parse(JSON.stringify(value))
      return (
        !/[<>&\u2028\u2029]/.test(json) && isDeepStrictEqual({ ...parseLeaseAttrs(json) }, want)
      )
    }),
  )
  const almost = fc.constantFrom(...'{}[]":,\\0123.nulltruefalsePublicIPv6BackendType'.match(/./g)!)
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.string({ unit: almost })), (text) => {
      try {
        parseLeaseAttrs(text)
        return true
      } catch (error) {
        return isHeddleError(error, 'HEDDLE_STORE_FORMAT')
      }
    }),
    { numRuns: 2000 },
  )
  t.pass('for all values and texts tried')
  t.end()
})
