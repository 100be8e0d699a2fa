/**
 * Keeps web pages of other sites out. A page may make a visitor's browser send requests to a server that only the visitor
 * reaches; browsers mark these (Origin, Sec-Fetch-Site), and a page that points its own name at our address (DNS rebinding)
 * sends that name as Host. Programs send none of these marks and are not affected, but must call the server by a name it knows.
 */

import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { type Refusal, refusal } from '../domain/refusal.ts'

/** Host headers are few; more different ones than this come from somebody trying. */
const HOSTS_REMEMBERED_MAX = 1_000

export class Guard {
  readonly #names: ReadonlySet<string>
  readonly #known = new Set<string>()

  /** `names`: the host names of this server, beside localhost and all IP addresses; `*` accepts every name. */
  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toLowerCase()))
  }

  /** Refused: `host_unknown`. */
  judgeHost(headers: IncomingHttpHeaders): Refusal | null {
    const host = headers.host ?? ''
    if (this.#known.has(host)) return null
    if (!this.#isOurs(nameOf(host))) return refusal('host_unknown', { host })
    if (this.#known.size < HOSTS_REMEMBERED_MAX) this.#known.add(host)
    return null
  }

  /** For requests that change something. Refused: `foreign_request`. */
  judgeOrigin(headers: IncomingHttpHeaders): Refusal | null {
    const { origin } = headers
    if (origin !== undefined && origin !== `http://${headers.host}` && origin !== `https://${headers.host}`)
      return refusal('foreign_request', { origin })
    const site = headers['sec-fetch-site']
    if (site !== undefined && site !== 'same-origin' && site !== 'none')
      return refusal('foreign_request', { origin: `Sec-Fetch-Site: ${String(site)}` })
    return null
  }

  /**
   * For a GET that changes something: an image tag is enough to send one, and outside https and localhost browsers do not
   * mark it. So no browser may. Refused: `foreign_request`.
   */
  judgeNoBrowser(headers: IncomingHttpHeaders): Refusal | null {
    // Not sec-fetch-mode: fetch in Node.js sends that as well.
    const marks = ['origin', 'referer', 'cookie', 'sec-fetch-site', 'sec-fetch-dest']
    const mark = marks.find((name) => headers[name] !== undefined)
    if (mark !== undefined) return refusal('foreign_request', { origin: `${mark}: ${String(headers[mark])}` })
    if (headers['user-agent']?.startsWith('Mozilla/'))
      return refusal('foreign_request', { origin: 'a browser' })
    return null
  }

  #isOurs(name: string): boolean {
    if (name === 'localhost' || name.endsWith('.localhost')) return true
    return isIP(name) !== 0 || this.#names.has('*') || this.#names.has(name)
  }
}

/** The host name or address in a Host header, in lower case, without port and brackets. */
function nameOf(host: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(host)
  if (bracketed !== null) return (bracketed[1] ?? '').toLowerCase()
  return host.replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase()
}
