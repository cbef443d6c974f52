/**
 * A kubeconfig file: the current context's server and user. Source: client-go, tools/clientcmd/api/v1
 *
 * Read are certificates, tokens, passwords and exec plugins, which is what flannel's client takes; anything else that
 * a user may have is refused by name. @kubernetes/client-node would do it too, for 70 MB of memory.
 */
import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { HeddleError } from '../errors.js'
import {
  ANONYMOUS,
  bearerOf,
  parseServer,
  readAccessFile,
  stateless,
  type Credentials,
  type CredentialSource,
  type KubeAccess,
} from './access.js'
import { createExecCredentials } from './exec-credentials.js'
import { objectOf, textOf } from './json.js'

type Fields = Readonly<Record<string, unknown>>

/** Members that would change who is let in or how, and are not built. */
const UNBUILT_CLUSTER = ['proxy-url']
const UNBUILT_USER = ['auth-provider', 'as', 'as-groups', 'as-uid', 'as-user-extra']

/**
 * @param apiUrl  in place of the file's server, null = not given
 * @throws HeddleError HEDDLE_USAGE that names the file and what is wrong with it
 */
export async function readKubeconfig(path: string, apiUrl: string | null): Promise<KubeAccess> {
  const fail = (what: string): never => {
    throw new HeddleError('HEDDLE_USAGE', `kubeconfig ${path}: ${what}`)
  }
  const file = parseYaml((await readAccessFile(path)).toString('utf8'), fail)
  const pick = (list: string, name: string, member: string): Fields => {
    const entries: unknown[] = Array.isArray(file[list]) ? file[list] : []
    const entry = entries.map(objectOf).find((known) => known?.['name'] === name)
    return objectOf(entry?.[member]) ?? fail(`it has no ${member} "${name}"`)
  }
  const current = textOf(file['current-context'])
  if (current === '') fail('it has no current-context; set one with kubectl config use-context')
  const context = pick('contexts', current, 'context')
  const cluster = pick('clusters', textOf(context['cluster']), 'cluster')
  const userName = textOf(context['user'])
  const user = userName === '' ? {} : pick('users', userName, 'user')
  for (const [fields, unbuilt] of [
    [cluster, UNBUILT_CLUSTER],
    [user, UNBUILT_USER],
  ] as const) {
    const member = unbuilt.find((name) => fields[name] !== undefined)
    if (member !== undefined) fail(`${member} is not supported`)
  }
  const folder = dirname(path)
  const ca = await material(cluster, 'certificate-authority', folder)
  const isVerified = cluster['insecure-skip-tls-verify'] !== true
  const credentials = await credentialsOf(user, folder, path, fail)
  // As client-go: an address without a scheme is of TLS where anything speaks of it.
  const hasCert = ['client-certificate', 'client-certificate-data'].some((name) => name in user)
  const scheme = ca !== null || !isVerified || hasCert ? 'https' : 'http'
  const shown = textOf(cluster['tls-server-name'])
  return {
    server:
      apiUrl === null
        ? parseServer(textOf(cluster['server']), `kubeconfig ${path}: server`, scheme)
        : parseServer(apiUrl, '--kube-api-url', scheme),
    ca,
    isVerified,
    serverName: apiUrl !== null || shown === '' ? null : shown,
    credentials,
  }
}

/** The mapping that a text is. Whatever is wrong with it is told without its words: they may be secrets. */
function parseYaml(text: string, fail: (what: string) => never): Fields {
  const document = parseDocument(text, { logLevel: 'silent', prettyErrors: false })
  const [fault] = [...document.errors, ...document.warnings]
  if (fault !== undefined) {
    const line = text.slice(0, fault.pos[0]).split('\n').length
    fail(`it is no YAML (${fault.code} in line ${String(line)})`)
  }
  let value: unknown
  try {
    value = document.toJS()
  } catch {
    fail('it is no YAML (an alias of nothing)')
  }
  return objectOf(value) ?? fail('it is no mapping')
}

/** The content of `<name>-data`, else of the file `<name>`; null = neither is given. */
async function material(fields: Fields, name: string, folder: string): Promise<Buffer | null> {
  const data = textOf(fields[`${name}-data`])
  if (data !== '') return Buffer.from(data, 'base64')
  const file = textOf(fields[name])
  return file === '' ? null : readAccessFile(resolve(folder, file))
}

async function credentialsOf(
  user: Fields,
  folder: string,
  path: string,
  fail: (what: string) => never,
): Promise<CredentialSource> {
  // Files are read each time: whoever issues certificates and tokens replaces them.
  const pair = async (): Promise<Pick<Credentials, 'cert' | 'key'>> => ({
    cert: await material(user, 'client-certificate', folder),
    key: await material(user, 'client-key', folder),
  })
  const { cert, key } = await pair()
  if ((cert === null) !== (key === null)) {
    fail('client-certificate and client-key belong together; give both or neither')
  }
  const exec = objectOf(user['exec'])
  if (exec !== null) return createExecCredentials(exec, path)
  const token = textOf(user['token'])
  const tokenFile = textOf(user['tokenFile'])
  const name = textOf(user['username'])
  return stateless(async () => {
    if (tokenFile !== '') {
      return { ...(await bearerOf(resolve(folder, tokenFile))), ...(await pair()) }
    }
    if (token !== '') return { authorization: `Bearer ${token}`, ...(await pair()) }
    if (name === '') return { ...ANONYMOUS, ...(await pair()) }
    const basic = Buffer.from(`${name}:${textOf(user['password'])}`).toString('base64')
    return { authorization: `Basic ${basic}`, ...(await pair()) }
  })
}
