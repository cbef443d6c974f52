/**
 * A tunnel with the dataplane that runs it, which is another one once its device was made anew.
 */
import type { Dataplane } from '../../dataplane/index.js'
import type { Tunnel } from './backend.js'

export class OpenTunnel {
  readonly tunnel: Tunnel
  /** What its devices were opened with. */
  readonly key: string
  dataplane: Dataplane
  /** Of its engines: `lost` = they have ended, as somebody deleted the device. */
  state: 'ready' | 'running' | 'lost' = 'ready'
  private readonly open: (before: Dataplane | null) => Dataplane

  /**
   * Opens device and sockets.
   * @param open  the same for every time; told of the dataplane before, whose device's name and
   *              counters stay
   */
  constructor(tunnel: Tunnel, key: string, open: (before: Dataplane | null) => Dataplane) {
    this.tunnel = tunnel
    this.key = key
    this.open = open
    this.dataplane = open(null)
  }

  /**
   * Makes a device anew, with sockets and an empty table.
   * @throws HeddleError that names what is in the way; to be tried again
   */
  async reopen(): Promise<void> {
    await this.dataplane.close()
    this.dataplane = this.open(this.dataplane)
    this.state = 'ready'
  }
}
