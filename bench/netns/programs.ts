/**
 * Which of the programs that contenders need are installed.
 */
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

/** Whether a program is on the PATH, sbin folders included. */
export function hasProgram(name: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
