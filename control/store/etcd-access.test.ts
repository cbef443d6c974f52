/**
 * The etcd store where etcd asks who is there: client certificates, users and passwords.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { HEDDLED } from '../lab/host.js'
import { ManagedProcess, must } from '../lab/process.js'
import type { LeaseAttrs, LeaseSubnet } from '../lease.js'
import { EtcdFixture, type EtcdTls } from './etcd-fixture.js'
import { createEtcdStore, type EtcdStoreOptions } from './etcd.js'
import { EventRecorder } from './event-recorder.js'

const signal = new AbortController().signal
const prefix = '/coreos.com/network'
const subnet: LeaseSubnet = { v4: { addr: 0x0a050100, len: 24 }, v6: null }
const attrs: LeaseAttrs = { publicIP: '192.0.2.1', publicIPv6: null, backendType: '' }
const A = '10.5.1.0-24'
const B = '10.5.2.0-24'

/** An authority and a certificate for 127.0.0.1 signed by it. */
async function makeTls(folder: string, name: string): Promise<EtcdTls> {
  const path = (file: string) => join(folder, `${name}-${file}`)
  const ssl = (...args: string[]) => must('openssl', args)
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await ssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    path('ca.key'),
    '-out',
    path('ca.pem'),
    '-days',
    '2',
    '-subj',
    '/CN=authority',
  )
  await ssl('req', ...newKey, '-keyout', path('key.pem'), '-out', path('csr'), '-subj', '/CN=node')
  await writeFile(
    path('ext'),
    'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n',
  )
  await ssl(
    'x509',
    '-req',
    '-in',
    path('csr'),
    '-CA',
    path('ca.pem'),
    '-CAkey',
    path('ca.key'),
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    path('ext'),
    '-out',
    path('cert.pem'),
  )
  return { ca: path('ca.pem'), cert: path('cert.pem'), key: path('key.pem') }
}

t.test('F19 client certificates', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-tls-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const ours = await makeTls(folder, 'ours')
  const alien = await makeTls(folder, 'alien')
  const etcd = await EtcdFixture.start(ours)
  t.teardown(() => etcd.remove())
  const open = (options: Partial<EtcdStoreOptions>) => {
    const store = createEtcdStore({
      endpoints: [etcd.endpoint],
      prefix,
      timeoutMs: 1000,
      ...options,
    })
    t.teardown(() => store.close())
    return store
  }
  const right = { caFile: ours.ca, certFile: ours.cert, keyFile: ours.key }
  const store = open(right)
  t.not(await store.createLease(subnet, attrs, 60_000, signal), null)
  const seen = new EventRecorder(store)
  await seen.line(`snapshot ${A}`)
  await etcd.ctl('put', `${prefix}/subnets/${B}`, '{"PublicIP":"192.0.2.2"}')
  await seen.line(`put ${B}`)
  await seen.stop()
  const wrong: [string, Partial<EtcdStoreOptions>][] = [
    ['an authority that did not sign the server', { ...right, caFile: alien.ca }],
    ['no authority: those of Node.js', { certFile: ours.cert, keyFile: ours.key }],
    [
      'a certificate the server does not trust',
      { ...right, certFile: alien.cert, keyFile: alien.key },
    ],
    ['no certificate', { caFile: ours.ca }],
    ['plain text', { ...right, endpoints: [etcd.endpoint.replace('https', 'http')] }],
  ]
  for (const [name, options] of wrong) {
    const error = { code: 'HEDDLE_STORE', retryable: true }
    await t.rejects(open(options).listLeases(signal), error, name)
  }

  // The daemon needs no rights until it has a configuration, which nobody writes here.
  const daemon = async (name: string, caFile: string, { cert, key }: EtcdTls) => {
    const args = [
      `--etcd-endpoints=${etcd.endpoint}`,
      `--etcd-cafile=${caFile}`,
      `--etcd-certfile=${cert}`,
      `--etcd-keyfile=${key}`,
      `--subnet-file=${join(folder, name, 'subnet.env')}`,
    ]
    const log = join(folder, name)
    const program = await ManagedProcess.start(process.execPath, [HEDDLED, ...args], { log })
    t.teardown(() => program.stop())
    return program
  }
  const [trusted, refused, deceived] = await Promise.all([
    daemon('trusted', ours.ca, ours),
    daemon('refused', ours.ca, alien),
    daemon('deceived', alien.ca, ours),
  ])
  await trusted.waitFor(/nobody has written it yet/, 20_000)
  const told = /store not reachable.*(certificate|alert|SSL|TLS|ECONNRESET|EPROTO)/i
  await Promise.all([refused, deceived].map((wrong) => wrong.waitFor(told, 20_000)))
  for (const program of [trusted, refused, deceived]) {
    t.ok(program.running, 'it keeps trying')
    t.notMatch(program.stderr(), /PRIVATE KEY/)
    t.same(await program.stop(5000), { code: 0, signal: null })
  }
})

t.test('F19 users and passwords', async (t) => {
  const etcd = await EtcdFixture.start()
  t.teardown(() => etcd.remove())
  const root = '--user=root:secret'
  await etcd.ctl('put', `${prefix}/subnets/${B}`, '{"PublicIP":"192.0.2.2"}')
  await etcd.ctl('user', 'add', 'root:secret')
  await etcd.ctl('user', 'grant-role', 'root', 'root')
  await etcd.ctl('user', 'add', 'node:word')
  await etcd.ctl('role', 'add', 'overlay')
  await etcd.ctl('role', 'grant-permission', 'overlay', '--prefix=true', 'readwrite', prefix)
  await etcd.ctl('user', 'grant-role', 'node', 'overlay')
  await etcd.ctl('auth', 'enable')
  const open = (username: string, password: string, place = prefix) => {
    const access = { endpoints: [etcd.endpoint], username, password }
    const store = createEtcdStore({ ...access, prefix: place, timeoutMs: 1000 })
    t.teardown(() => store.close())
    return store
  }
  const store = open('node', 'word')
  const lease = await store.createLease(subnet, attrs, 60_000, signal)
  t.not(lease, null)
  const seen = new EventRecorder(store)
  await seen.line(`snapshot ${A} ${B}`)

  for (const [name, user, password, place] of [
    ['wrong password', 'node', 'guess', prefix],
    ['no such user', 'nobody', 'word', prefix],
    ['nobody at all', '', '', prefix],
    ['another prefix', 'node', 'word', '/elsewhere'],
  ] as const) {
    const refused = open(user, password, place)
    const error = { code: 'HEDDLE_STORE', retryable: true }
    await t.rejects(refused.listLeases(signal), error, name)
    await t.rejects(refused.createLease(subnet, attrs, 60_000, signal), error, name)
  }

  // A restart forgets all tokens: the store fetches a new one, for calls and for the watch.
  await etcd.stop()
  await etcd.resume()
  await etcd.ctl(root, 'del', `${prefix}/subnets/${B}`)
  await seen.until(() => !seen.leases.has(B), 'the removal', 8000)
  t.ok(seen.leases.has(A))
  t.not(await store.updateLease(lease!, attrs, 60_000, signal), null)
  await seen.stop()
})
