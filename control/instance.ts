/**
 * One daemon an instance: an exclusive lock on a file beside the subnet file, which names the
 * instance. The kernel drops the lock with the process, however it ends.
 */
import { lockFile } from '../dataplane/index.js'
import { HeddleError } from './errors.js'

/**
 * Takes the instance's lock.
 * @returns a function that releases it
 * @throws  HEDDLE_BUSY when another daemon holds it
 */
export function lockInstance(subnetFile: string): () => void {
  const path = `${subnetFile}.lock`
  try {
    return lockFile(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EAGAIN') {
      throw new HeddleError(
        'HEDDLE_BUSY',
        `another heddled runs with --subnet-file=${subnetFile} (it holds ${path}); stop it, or give this one a subnet file of its own`,
        { cause: error },
      )
    }
    throw new HeddleError('HEDDLE_PERMISSION', `cannot lock ${path}: ${message}`, { cause: error })
  }
}
