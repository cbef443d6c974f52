/**
 * The objects of docs/kubernetes, for the tests that hold the manifests to what the daemon needs.
 */
import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'

export interface ManifestObject {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly [member: string]: unknown
}

const FOLDER = new URL('../../../../docs/kubernetes/', import.meta.url)

/** In the order in which kubectl applies the folder. */
export function readManifest(): ManifestObject[] {
  return ['access.yaml', 'heddle.yaml']
    .flatMap((file) => parseAllDocuments(readFileSync(new URL(file, FOLDER), 'utf8')))
    .map((document) => document.toJS() as ManifestObject)
}

/** Where the API keeps objects of a kind. */
export function pathOf({ kind, metadata: { namespace } }: ManifestObject): string {
  const groups: Readonly<Record<string, string>> = {
    ClusterRole: '/apis/rbac.authorization.k8s.io/v1/clusterroles',
    ClusterRoleBinding: '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
    Namespace: '/api/v1/namespaces',
    DaemonSet: `/apis/apps/v1/namespaces/${String(namespace)}/daemonsets`,
    ServiceAccount: `/api/v1/namespaces/${String(namespace)}/serviceaccounts`,
    ConfigMap: `/api/v1/namespaces/${String(namespace)}/configmaps`,
  }
  const path = groups[kind]
  if (path === undefined) throw new Error(`the manifest has a ${kind}, which no test expects`)
  return path
}
