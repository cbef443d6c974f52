import fc from 'fast-check'
import t from 'tap'
import { parseUdpBackend, requireBackendType } from './backend/config.js'
import { isHeddleError } from './errors.js'
import { parseNetworkConfig } from './network-config.js'
import { formatAddr4, formatAddr6, formatPrefix4, formatPrefix6 } from './prefix.js'

/** Network, length, min and max as text. */
function ipv4Of(text: string): string {
  const { network, subnetLen, subnetMin, subnetMax } = parseNetworkConfig(text).ipv4!
  return `${formatPrefix4(network)} ${subnetLen} ${formatAddr4(subnetMin)} ${formatAddr4(subnetMax)}`
}

function ipv6Of(fields: string): string {
  const config = parseNetworkConfig(`{"Network":"10.3.0.0/16","EnableIPv6":true,${fields}}`)
  const { network, subnetLen, subnetMin, subnetMax } = config.ipv6!
  return `${formatPrefix6(network)} ${subnetLen} ${formatAddr6(subnetMin)} ${formatAddr6(subnetMax)}`
}

t.test('IPv4 defaults and overrides', (t) => {
  const cases: readonly [string, string][] = [
    ['{"network":"10.3.0.0/16"}', '10.3.0.0/16 24 10.3.1.0 10.3.255.0'],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28}',
      '10.3.0.0/16 28 10.3.5.0 10.3.8.0',
    ],
    ['{"Network":"10.3.4.0/22"}', '10.3.4.0/22 24 10.3.5.0 10.3.7.0'],
    ['{"Network":"10.3.4.0/23"}', '10.3.4.0/23 25 10.3.4.128 10.3.5.128'],
    ['{"Network":"10.3.4.0/28"}', '10.3.4.0/28 30 10.3.4.4 10.3.4.12'],
    ['{"Network":"240.0.0.0/4"}', '240.0.0.0/4 24 240.0.1.0 255.255.255.0'],
    ['{"Network":"10.3.0.0/16","SubnetLen":30}', '10.3.0.0/16 30 10.3.0.4 10.3.255.252'],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.3.9.0","SubnetMax":"10.3.9.0"}',
      '10.3.0.0/16 24 10.3.9.0 10.3.9.0',
    ],
    ['{"Network":"10.3.77.88/16"}', '10.3.0.0/16 24 10.3.1.0 10.3.255.0'],
    ['{"NETWORK":"10.3.0.0/16","subnetLEN":18}', '10.3.0.0/16 18 10.3.64.0 10.3.192.0'],
    [
      '{"Network":"10.3.0.0/16","SubnetLen":0,"SubnetMin":"0.0.0.0","SubnetMax":null,"Nobody":1}',
      '10.3.0.0/16 24 10.3.1.0 10.3.255.0',
    ],
    ['{"Network":"10.3.0.0/16","SubnetMin":"10.3.0.0"}', '10.3.0.0/16 24 10.3.0.0 10.3.255.0'],
  ]
  for (const [json, want] of cases) t.equal(ipv4Of(json), want, json)
  t.equal(parseNetworkConfig('{"Network":"10.3.0.0/16"}').ipv6, null)
  t.equal(parseNetworkConfig('{"Network":"10.3.0.0/16","IPv6Network":"x"}').ipv6, null, 'unused')
  t.equal(
    parseNetworkConfig('{"Network":"10.3.0.0/16","EnableNFTables":true}').enableNFTables,
    true,
  )
  t.end()
})

t.test('IPv6 defaults and overrides', (t) => {
  t.equal(ipv6Of('"ipv6Network":"fc00::/48"'), 'fc00::/48 64 fc00:0:0:1:: fc00:0:0:ffff::')
  t.equal(
    ipv6Of(
      '"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":124',
    ),
    'fc00::/48 124 fc00:0:0:1:: fc00:0:0:f::',
  )
  t.equal(ipv6Of('"IPv6Network":"fc00::/62"'), 'fc00::/62 64 fc00:0:0:1:: fc00:0:0:3::')
  t.equal(ipv6Of('"IPv6Network":"fc00::/64"'), 'fc00::/64 66 fc00::4000:0:0:0 fc00::c000:0:0:0')
  t.equal(ipv6Of('"IPv6Network":"fc00::/124"'), 'fc00::/124 126 fc00::4 fc00::c')
  t.end()
})

const N = '"Network":"10.3.0.0/16"'
const SIX = `${N},"EnableIPv6":true`
const INVALID: readonly [string, RegExp][] = [
  ['', /not valid JSON/],
  ['{"Network":"10.3.0.0/16"', /not valid JSON/],
  ['null', /null is no object/],
  ['["10.3.0.0/16"]', /is no object/],
  ['{}', /Network is missing; write a prefix/],
  ['{"Network":null}', /Network is null/],
  ['{"Network":""}', /Network is ""/],
  ['{"Network":10}', /Network is 10/],
  ['{"Network":"10.3.0.0"}', /Network is "10.3.0.0"; write a prefix such as "10.5.0.0\/16"/],
  ['{"Network":"fc00::/48"}', /Network is "fc00::\/48"/],
  ['{"Network":"0.0.0.0/0"}', /Network is "0.0.0.0\/0"/],
  [`{${N},"SubnetLen":31}`, /SubnetLen is 31; write a number from 18 to 30/],
  ['{"Network":"10.3.0.0/28","SubnetLen":31}', /SubnetLen is 31; write a number from 30 to 30/],
  [`{${N},"SubnetLen":17}`, /SubnetLen is 17; write a number from 18 to 30/],
  [`{${N},"SubnetLen":-1}`, /SubnetLen is -1/],
  [`{${N},"SubnetLen":24.5}`, /SubnetLen is 24.5/],
  [`{${N},"SubnetLen":"24"}`, /SubnetLen is "24"/],
  ['{"Network":"10.3.0.0/29"}', /10.3.0.0\/29 is too small .* use a \/28/],
  ['{"Network":"10.3.0.0/29","SubnetLen":30}', /SubnetLen is 30; .* use a \/28/],
  [`{${N},"SubnetMin":"10.4.0.0"}`, /SubnetMin is "10.4.0.0", outside the network/],
  [`{${N},"SubnetMax":"10.2.255.0"}`, /SubnetMax is "10.2.255.0", outside/],
  [`{${N},"SubnetMin":"10.3.1.1"}`, /SubnetMin is "10.3.1.1", not the first address of a subnet/],
  [`{${N},"SubnetMax":"10.3.1.128"}`, /SubnetMax is "10.3.1.128", not the first/],
  [`{${N},"SubnetMin":"x"}`, /SubnetMin is "x"; write the base address .* such as "10.3.1.0"/],
  [`{${N},"SubnetMin":7}`, /SubnetMin is 7/],
  [`{${N},"SubnetMin":"10.3.9.0","SubnetMax":"10.3.8.0"}`, /SubnetMin 10.3.9.0 lies above/],
  [`{${SIX}}`, /IPv6Network is missing/],
  [`{${SIX},"IPv6Network":"10.0.0.0/8"}`, /IPv6Network is "10.0.0.0\/8"/],
  [`{${SIX},"IPv6Network":"fc00::/48","IPv6SubnetLen":127}`, /IPv6SubnetLen is 127; .* 50 to 126/],
  [`{${SIX},"IPv6Network":"fc00::/48","IPv6SubnetLen":49}`, /IPv6SubnetLen is 49/],
  [`{${SIX},"IPv6Network":"fc00::/125"}`, /fc00::\/125 is too small .* use a \/124/],
  [`{${SIX},"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc01::"}`, /IPv6SubnetMin .* outside/],
  [
    `{${SIX},"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00::1"}`,
    /IPv6SubnetMax .* not the first/,
  ],
  [`{${N},"EnableIPv6":"true"}`, /EnableIPv6 is "true"; write true or false/],
  [`{${N},"EnableIPv4":false}`, /EnableIPv4 is false and EnableIPv6 is not true/],
  [`{${N},"Backend":"udp"}`, /Backend is "udp"; write an object/],
  [`{${N},"Backend":[]}`, /Backend is \[\]/],
  [`{${N},"Backend":{"Type":1}}`, /Backend.Type is 1/],
]

t.test('refuses, naming field, value and remedy', (t) => {
  for (const [json, message] of INVALID) {
    t.throws(
      () => parseNetworkConfig(json),
      { code: 'HEDDLE_CONFIG', message, retryable: true },
      json,
    )
  }
  t.end()
})

t.test('backend type and options', (t) => {
  const backend = (json: string) => parseNetworkConfig(`{${N}${json}}`)
  t.equal(requireBackendType(backend('')), 'udp', 'no Backend')
  t.equal(requireBackendType(backend(',"Backend":{"type":"UDP"}')), 'udp')
  for (const json of [',"Backend":null', ',"Backend":{}', ',"Backend":{"Type":null}']) {
    t.equal(backend(json).backend.type, '')
    t.throws(() => requireBackendType(backend(json)), { message: /unknown backend type/ }, json)
  }
  t.equal(requireBackendType(backend(',"Backend":{"Type":"vxlan"}')), 'vxlan')
  t.throws(() => requireBackendType(backend(',"Backend":{"Type":"wireguard"}')), {
    code: 'HEDDLE_CONFIG',
    message: /"wireguard" is not built yet/,
  })
  t.equal(parseUdpBackend(backend('')).port, 8285)
  t.equal(parseUdpBackend(backend(',"Backend":{"Type":"udp","Port":null}')).port, 8285)
  t.equal(parseUdpBackend(backend(',"Backend":{"Type":"udp","port":7890}')).port, 7890)
  for (const port of ['"8285"', '0', '65536', '-1', '1.5', 'true', '[]']) {
    const config = backend(`,"Backend":{"Type":"udp","Port":${port}}`)
    t.throws(
      () => parseUdpBackend(config),
      { code: 'HEDDLE_CONFIG', message: /Backend.Port/ },
      port,
    )
  }
  t.end()
})

t.test('properties', (t) => {
  const names = [
    'Network',
    'SubnetLen',
    'SubnetMin',
    'SubnetMax',
    'EnableIPv6',
    'IPv6Network',
    'IPv6SubnetLen',
    'Backend',
  ]
  const values = fc.oneof(
    fc.constantFrom<unknown>(
      '10.3.0.0/16',
      '10.3.4.0/28',
      'fc00::/48',
      '10.3.4.0',
      24,
      30,
      64,
      true,
      false,
    ),
    fc.jsonValue(),
  )
  const nearly = fc
    .dictionary(fc.constantFrom(...names), values)
    .map((value) => JSON.stringify(value))
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), nearly), (text) => {
      try {
        const { ipv4, ipv6 } = parseNetworkConfig(text)
        if (ipv4 === null) return ipv6 !== null
        const { network, subnetLen, subnetMin, subnetMax } = ipv4
        const size = 2 ** (32 - subnetLen)
        const end = network.addr + 2 ** (32 - network.len)
        return subnetMin >= network.addr && subnetMin <= subnetMax && subnetMax + size <= end
      } catch (error) {
        return isHeddleError(error, 'HEDDLE_CONFIG') && !error.message.includes('\n')
      }
    }),
    { numRuns: 2000 },
  )
  t.pass('for all texts tried')
  t.end()
})

t.test('where subnets are assigned, what limits a choice is not looked at', (t) => {
  const text =
    '{"Network":"10.244.7.9/28","SubnetLen":99,"SubnetMin":"x","EnableIPv6":true,"IPv6Network":"fd00::/126"}'
  t.throws(() => parseNetworkConfig(text), { code: 'HEDDLE_CONFIG' })
  const { ipv4, ipv6 } = parseNetworkConfig(text, 'assigned')
  t.same(ipv4, {
    network: { addr: 0x0af40700, len: 28 },
    subnetLen: 28,
    subnetMin: 0x0af40700,
    subnetMax: 0x0af40700,
  })
  t.match(ipv6, { network: { len: 126 } })
  t.throws(() => parseNetworkConfig('{"Network":"10.244.0.0"}', 'assigned'), {
    code: 'HEDDLE_CONFIG',
  })
  t.end()
})
