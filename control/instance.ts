/**
 * One daemon an instance: an exclusive lock on a file beside the subnet file, which names the
 * instance. The kernel drops the lock with the process, however it ends.
 */
import { dirname } from 'node:path'
import { lockFile } from '../dataplane/index.js'
import { describeError, HeddleError } from './errors.js'
import { makeFolder } from './subnet-file.js'

/**
 * Takes the instance's lock; the folder of the subnet file is made when it is missing.
 * @returns a function that releases it
 * @throws  HEDDLE_BUSY when another daemon holds it, HEDDLE_PERMISSION when the folder or the lock
 *          file cannot be made
 */
export async function lockInstance(subnetFile: string): Promise<() => void> {
  const path = `${subnetFile}.lock`
  try {
    await makeFolder(dirname(path))
    return lockFile(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') {
      throw new HeddleError(
        'HEDDLE_BUSY',
        `another heddled runs with --subnet-file=${subnetFile} (it holds ${path}); stop it, or give this one a subnet file of its own`,
        { cause: error },
      )
    }
    throw new HeddleError(
      'HEDDLE_PERMISSION',
      `cannot lock ${path}: ${describeError(error)}; give --subnet-file a path that can be written`,
      { cause: error },
    )
  }
}
