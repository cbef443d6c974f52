/**
 * Which configurations the daemon refuses to run at all.
 */
import t from 'tap'
import { requireBackendType } from './backend-config.js'
import { parseNetworkConfig } from './network-config.js'

t.test('a dual-stack network is refused as not built, not half served', async (t) => {
  const config = parseNetworkConfig(
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}',
  )
  t.throws(() => requireBackendType(config), {
    code: 'HEDDLE_CONFIG',
    message: /EnableIPv6 is not built yet/,
  })
})
