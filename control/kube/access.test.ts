import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openAccess } from './access.js'

const NOWHERE = { apiUrl: null, kubeconfigFile: null, serviceHost: '', servicePort: '' }

/** A kubeconfig with one cluster and one user, as YAML. */
function kubeconfig(t: Test, cluster: string, user: string, more = ''): string {
  const path = join(t.testdir(), 'config')
  const indent = (text: string) => text.replace(/^/gm, '    ')
  writeFileSync(
    path,
    [
      'apiVersion: v1',
      'kind: Config',
      'current-context: here',
      'contexts:\n- name: elsewhere\n  context: {cluster: x, user: y}',
      '- name: here\n  context: {cluster: c, user: u}',
      `clusters:\n- name: c\n  cluster:\n${indent(cluster)}`,
      `users:\n- name: u\n  user:\n${indent(user)}`,
      more,
    ].join('\n'),
  )
  return path
}

const SERVER = 'server: https://10.0.0.1:6443/k8s/x'
const base64 = (text: string) => Buffer.from(text).toString('base64')
const open = (kubeconfigFile: string, apiUrl: string | null = null) =>
  openAccess({ ...NOWHERE, kubeconfigFile, apiUrl })

t.test('in a pod', async (t) => {
  const serviceAccount = t.testdir({ token: 'first\n', 'ca.crt': 'CA' })
  const access = await openAccess({
    ...NOWHERE,
    serviceHost: 'fd00::1',
    servicePort: '443',
    serviceAccount,
  })
  t.equal(access.server.href, 'https://[fd00::1]/')
  t.equal(String(access.ca), 'CA')
  t.match(await access.credentials.get(), { authorization: 'Bearer first', cert: null })
  writeFileSync(join(serviceAccount, 'token'), 'second')
  t.match(await access.credentials.get(), { authorization: 'Bearer second' }, 'tokens are replaced')
  await t.rejects(
    openAccess({
      ...NOWHERE,
      serviceHost: '10.0.0.1',
      servicePort: '443',
      serviceAccount: '/none',
    }),
    { code: 'HEDDLE_USAGE', message: /cannot read \/none\/ca\.crt: ENOENT/ },
  )
  await t.rejects(openAccess(NOWHERE), { code: 'HEDDLE_USAGE', message: /--kubeconfig-file/ })
})

t.test('an address alone', async (t) => {
  const access = await openAccess({ ...NOWHERE, apiUrl: '127.0.0.1:8080' })
  t.equal(access.server.href, 'http://127.0.0.1:8080/')
  t.same(await access.credentials.get(), { authorization: null, cert: null, key: null })
  const refused = [
    'ftp://x',
    'http://',
    'https://u:hunter2@k',
    'u:hunter2@k:1',
    'https://:hunter2@k',
  ]
  for (const apiUrl of refused) {
    const opened = openAccess({ ...NOWHERE, apiUrl })
    await t.rejects(opened, { code: 'HEDDLE_USAGE', message: /no address of a Kubernetes API/ })
    await opened.catch((error: unknown) => t.notMatch(String(error), /hunter2/))
  }
})

t.test('a kubeconfig file', async (t) => {
  await t.test('token and authority inside', async (t) => {
    const cluster = `${SERVER}\ncertificate-authority-data: ${base64('CA')}\ntls-server-name: k8s`
    const access = await open(kubeconfig(t, cluster, 'token: secret'))
    t.match(access, { server: { pathname: '/k8s/x' }, serverName: 'k8s', isVerified: true })
    t.equal(String(access.ca), 'CA')
    t.match(await access.credentials.get(), { authorization: 'Bearer secret' })
  })

  await t.test('files beside it, an address in place of its own', async (t) => {
    const path = kubeconfig(
      t,
      `${SERVER}\ncertificate-authority: ca.pem\ninsecure-skip-tls-verify: true`,
      'client-certificate: cert.pem\nclient-key: sub/key.pem\ntokenFile: token',
    )
    const folder = join(path, '..')
    mkdirSync(join(folder, 'sub'))
    for (const name of ['ca.pem', 'cert.pem', 'sub/key.pem', 'token']) {
      writeFileSync(join(folder, name), name)
    }
    const access = await open(path, 'https://10.0.0.9')
    t.match(access, { server: { host: '10.0.0.9' }, isVerified: false })
    t.equal(String(access.ca), 'ca.pem')
    const { authorization, cert, key } = await access.credentials.get()
    t.same([authorization, String(cert), String(key)], ['Bearer token', 'cert.pem', 'sub/key.pem'])
  })

  await t.test('an address without a scheme is of TLS where anything speaks of it', async (t) => {
    const plain = kubeconfig(t, 'server: k:1', 'token: x')
    t.equal((await open(plain)).server.protocol, 'http:')
    for (const cluster of [
      `certificate-authority-data: ${base64('CA')}`,
      'insecure-skip-tls-verify: true',
    ]) {
      const path = kubeconfig(t, `${SERVER}\ntls-server-name: x\n${cluster}`, 'token: x')
      t.match(await open(path, 'k:1'), { server: { protocol: 'https:' }, serverName: null })
    }
  })

  await t.test('name and password, and nobody', async (t) => {
    const access = await open(kubeconfig(t, SERVER, 'username: a\npassword: b'))
    t.match(await access.credentials.get(), { authorization: `Basic ${base64('a:b')}` })
    const nobody = await open(kubeconfig(t, SERVER, '{}'))
    t.match(await nobody.credentials.get(), { authorization: null })
  })

  await t.test('a command', async (t) => {
    const path = kubeconfig(
      t,
      SERVER,
      [
        'exec:',
        '  apiVersion: client.authentication.k8s.io/v1',
        '  command: ./plugin',
        '  args: ["a b"]',
        '  env: [{name: WHO, value: me}]',
      ].join('\n'),
    )
    const count = join(path, '../count')
    const plugin = (lifetime: number) => {
      const expiry = new Date(Date.now() + lifetime).toISOString()
      const script = [
        '#!/bin/sh',
        `echo "$1 $WHO $KUBERNETES_EXEC_INFO" >> ${count}`,
        `echo '{"status":{"token":"t-'$(wc -l < ${count})'","expirationTimestamp":"${expiry}"}}'`,
      ]
      writeFileSync(join(path, '../plugin'), script.join('\n'))
      chmodSync(join(path, '../plugin'), 0o755)
    }
    const { credentials } = await open(path)
    plugin(1000)
    t.match(await credentials.get(), { authorization: 'Bearer t-1' })
    plugin(3600_000)
    t.match(
      await credentials.get(),
      { authorization: 'Bearer t-2' },
      'the first was about to expire',
    )
    t.match(await credentials.get(), { authorization: 'Bearer t-2' }, 'the second is kept')
    credentials.forget()
    const both = await Promise.all([credentials.get(), credentials.get()])
    t.match(both, [{ authorization: 'Bearer t-3' }, { authorization: 'Bearer t-3' }], 'asked once')
    writeFileSync(join(path, '../plugin'), '#!/bin/sh\necho oops >&2; exit 3')
    const { credentials: failing } = await open(path)
    await t.rejects(failing.get(), {
      code: 'HEDDLE_STORE',
      retryable: true,
      message: /plugin.*3.*oops/,
    })
    writeFileSync(join(path, '../plugin'), '#!/bin/sh\necho secret')
    await t.rejects(failing.get(), { message: /the answer of .*plugin is no JSON$/ })
  })

  await t.test('what is wrong is named, and no secret', async (t) => {
    const cases: readonly [string, string, string, RegExp][] = [
      [
        SERVER,
        'token: hunter2',
        'current-context: none',
        /it is no YAML \(DUPLICATE_KEY in line 17\)/,
      ],
      ['server: ftp://x', 'token: hunter2', '', /server=ftp:\/\/x is no address/],
      [SERVER, 'auth-provider: {name: oidc}', '', /auth-provider is not supported/],
      [`${SERVER}\nproxy-url: http://p`, '{}', '', /proxy-url is not supported/],
      [
        SERVER,
        'client-key-data: aHVudGVyMg==',
        '',
        /client-certificate and client-key belong together/,
      ],
      [`${SERVER}\ncertificate-authority: none.pem`, '{}', '', /none\.pem: ENOENT/],
      [SERVER, 'password: !hunter2', '', /it is no YAML \(TAG_RESOLVE_FAILED in line/],
      [SERVER, 'token: *hunter2', '', /it is no YAML \(an alias of nothing\)/],
      [SERVER, 'token: |hunter2', '', /it is no YAML \([A-Z_]+ in line/],
      [
        SERVER,
        'exec: {command: x, apiVersion: client.authentication.k8s.io/v1, provideClusterInfo: true}',
        '',
        /exec\.provideClusterInfo is not supported/,
      ],
      [SERVER, 'exec: {command: x}', '', /exec needs a command, and apiVersion/],
      [SERVER, 'token: "hunter2', '', /it is no YAML \(MISSING_CHAR in line/],
    ]
    for (const [cluster, user, more, message] of cases) {
      const opened = open(kubeconfig(t, cluster, user, more))
      await t.rejects(opened, { code: 'HEDDLE_USAGE', message }, String(message))
      await opened.catch((error: unknown) => t.notMatch(String(error), /hunter2|aHVud/))
    }
    const write = (text: string) => {
      const path = join(t.testdir(), 'config')
      writeFileSync(path, text)
      return open(path)
    }
    await t.rejects(write('7'), { message: /it is no mapping/ })
    await t.rejects(write('{}'), { message: /no current-context/ })
    await t.rejects(write('current-context: x'), { message: /it has no context "x"/ })
    await t.rejects(open('/none'), { message: /cannot read \/none: ENOENT/ })
  })
})
