import t from 'tap'
import { NO_PUBLIC_IP } from './lease.js'
import { answers, leaseOf, recordedLog, scriptedStore } from './scripted-store.js'
import { createStoreLeasing } from './store-leasing.js'

const { signal } = new AbortController()

const leasingOf = (methods: Parameters<typeof scriptedStore>[0]) =>
  createStoreLeasing({
    store: scriptedStore(methods),
    previous: null,
    leaseTtlMs: 60_000,
    renewMarginMs: 1000,
    log: recordedLog().log,
  })

t.test('what this host published is known by its address', async (t) => {
  const own = leaseOf('10.5.2.0-24', '198.51.100.1')
  const { published } = leasingOf({
    listLeases: answers([leaseOf('10.5.1.0-24', '198.51.100.2'), own]),
  })
  t.equal(await published({ publicIP: '198.51.100.1', publicIPv6: null }, signal), own.attrs)
  t.equal(await published({ publicIP: '198.51.100.3', publicIPv6: null }, signal), null)
  t.equal(await published({ publicIP: NO_PUBLIC_IP, publicIPv6: '2001:db8::1' }, signal), null)
})

t.test('no configuration, a valid one, and one that is not', async (t) => {
  const { readConfig } = leasingOf({
    readConfig: answers(null, '{"Network":"10.5.0.0/16"}', '{"Network":7}'),
  })
  t.equal(await readConfig(signal), null)
  t.match(await readConfig(signal), { backend: { type: 'udp' }, ipv4: { subnetLen: 24 } })
  await t.rejects(readConfig(signal), { code: 'HEDDLE_CONFIG' })
})
