import t from 'tap'
import { verdict } from '../dataplane/index.js'
import { describeRefusal } from './refusal.js'

t.test('the line names host, source, reason and remedy', async (t) => {
  const from = [0xac1e000d | 0]
  const source = [0x0a050209]
  const reasons: readonly [number, RegExp][] = [
    [verdict.DROP_SOURCE_FORGED, /\(drop_source_forged\): that source is leased to another host/],
    [verdict.DROP_SOURCE_UNKNOWN, /\(drop_source_unknown\): that host holds no lease/],
    [verdict.DROP_SOURCE_OUTSIDE, /\(drop_source_outside\): no lease covers that source/],
  ]
  for (const [why, reason] of reasons) {
    const line = describeRefusal({ verdict: why, from, source })
    t.match(line, /^refused a packet from host 172\.30\.0\.13 with source 10\.5\.2\.9 /)
    t.match(line, reason)
    t.match(line, '--ingress-allow=10.5.2.9/32=172.30.0.13')
  }
  const six = [0xfd050002 | 0, 0, 0, 9]
  const line = describeRefusal({ verdict: verdict.DROP_SOURCE_FORGED, from, source: six })
  t.match(line, 'with source fd05:2::9 (drop_source_forged)')
  t.match(line, '--ingress-allow=fd05:2::9/128=172.30.0.13')
  const host = { verdict: verdict.DROP_SOURCE_UNKNOWN, from: [0xfd300000 | 0, 0, 0, 3], source }
  t.match(describeRefusal(host), /host fd30::3 with source 10\.5\.2\.9 .*=10\.5\.2\.9\/32=fd30::3;/)
})
