/**
 * A kubeconfig file: the current context's server and user. Source: client-go, tools/clientcmd/api/v1
 *
 * Read are certificates, tokens, passwords and exec plugins, which is what flannel's client takes; anything else that
 * a user may have is refused by name. @kubernetes/client-node would do it too, for 70 MB of memory.
 */
import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'
import { describeError, HeddleError } from '../errors.js'
import {
  ANONYMOUS,
  bearerOf,
  parseServer,
  readAccessFile,
  type Credentials,
  type KubeAccess,
} from './access.js'
import { createExecCredentials } from './exec-credentials.js'
import { objectOf, textOf } from './node.js'

type Fields = Readonly<Record<string, unknown>>

/** Members that would change who is let in or how, and are not built. */
const UNBUILT_CLUSTER = ['proxy-url']
const UNBUILT_USER = ['auth-provider', 'as', 'as-groups', 'as-uid', 'as-user-extra']

/**
 * @param server  in place of the file's
 * @throws HeddleError HEDDLE_USAGE that names the file and what is wrong with it
 */
export async function readKubeconfig(path: string, server: URL | null): Promise<KubeAccess> {
  const fail = (what: string, cause?: unknown): never => {
    throw new HeddleError('HEDDLE_USAGE', `kubeconfig ${path}: ${what}`, { cause })
  }
  const text = (await readAccessFile(path)).toString('utf8')
  let file: Fields
  try {
    file = objectOf(parse(text)) ?? fail('it is no mapping')
  } catch (error) {
    // The parser quotes lines, and lines hold secrets.
    if (error instanceof HeddleError) throw error
    return fail(`it is no YAML (${describeError(error).split('\n', 1)[0] ?? ''})`)
  }
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
  /** The content of `<name>-data`, else of the file `<name>`. */
  const material = async (fields: Fields, name: string): Promise<Buffer | null> => {
    const data = textOf(fields[`${name}-data`])
    if (data !== '') return Buffer.from(data, 'base64')
    const file = textOf(fields[name])
    return file === '' ? null : readAccessFile(resolve(dirname(path), file))
  }
  const shown = textOf(cluster['tls-server-name'])
  const access = {
    server: server ?? parseServer(textOf(cluster['server']), `kubeconfig ${path}: server`),
    ca: await material(cluster, 'certificate-authority'),
    isVerified: cluster['insecure-skip-tls-verify'] !== true,
    serverName: shown === '' ? null : shown,
  }
  const cert = await material(user, 'client-certificate')
  const key = await material(user, 'client-key')
  if ((cert === null) !== (key === null)) {
    fail('client-certificate and client-key belong together; give both or neither')
  }
  const exec = objectOf(user['exec'])
  const plugin = exec === null ? null : createExecCredentials(exec, path)
  const token = textOf(user['token'])
  const tokenFile = textOf(user['tokenFile'])
  const name = textOf(user['username'])
  const credentials = async (): Promise<Credentials> => {
    if (plugin !== null) return plugin()
    if (tokenFile !== '') {
      return { ...(await bearerOf(resolve(dirname(path), tokenFile))), cert, key }
    }
    if (token !== '') return { authorization: `Bearer ${token}`, cert, key }
    if (name === '') return { ...ANONYMOUS, cert, key }
    const pair = Buffer.from(`${name}:${textOf(user['password'])}`).toString('base64')
    return { authorization: `Basic ${pair}`, cert, key }
  }
  return { ...access, credentials }
}
