/**
 * What the tests of IPv6 share: the networks that they configure.
 */

export const NETWORK6 = 'fd05::/48'

/** Members of a dual-stack configuration beside the IPv4 network. */
export const DUAL = { EnableIPv6: true, IPv6Network: NETWORK6 }

/** Members of an IPv6-only configuration. */
export const ONLY6 = { Network: undefined, EnableIPv4: false, ...DUAL }
