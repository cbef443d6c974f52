/**
 * Many hosts that ask for a subnet at the same moment: one acquisition each, with a public address
 * and an etcd connection of its own, all in this process.
 *
 *     node acquire-many.js ENDPOINT PREFIX COUNT
 *
 * Prints one line a host: its address, and its subnet or the code of its error.
 */
import { acquireLease } from '../acquire.js'
import { HeddleError } from '../errors.js'
import { formatSubnet } from '../lease.js'
import { createLogger } from '../log.js'
import { parseNetworkConfig } from '../network-config.js'
import { createEtcdStore } from '../store/etcd.js'

const DAY_MS = 86_400_000

const [endpoint = '', prefix = '', count = '0'] = process.argv.slice(2)
const { signal } = new AbortController()
const log = createLogger()

async function acquire(publicIP: string): Promise<string> {
  const store = createEtcdStore({ endpoints: [endpoint], prefix })
  try {
    const config = parseNetworkConfig((await store.readConfig(signal)) ?? '')
    const attrs = { publicIP, publicIPv6: null, backendType: '' }
    const request = { store, config, attrs, previous: null, ttlMs: DAY_MS, log }
    return formatSubnet((await acquireLease(request, signal)).subnet)
  } catch (error) {
    return error instanceof HeddleError ? error.code : String(error)
  } finally {
    await store.close()
  }
}

const addresses = Array.from({ length: Number(count) }, (_, i) => `172.30.1.${i + 1}`)
const answers = await Promise.all(addresses.map(acquire))
for (const [i, address] of addresses.entries()) {
  process.stdout.write(`${address} ${String(answers[i])}\n`)
}
