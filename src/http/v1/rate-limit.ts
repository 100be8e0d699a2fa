/**
 * How many calls one token, or one address without a token, may make: a bucket that holds a minute's calls and is filled again evenly,
 * so bursts are possible and a steady rate is what counts. Each server counts for itself. Headers as in
 * draft-ietf-httpapi-ratelimit-headers: `r` calls are left, and after `t` seconds the bucket is full again.
 */
import { LRUCache } from 'lru-cache'

const WINDOW_SECONDS = 60
const BUCKETS_MAX = 20_000

interface Bucket {
  calls: number
  atMs: number
}

/** What became of a call: how many more there may be now, and when there may be all of them; and when the next one, if this was too many. */
export interface Allowance {
  readonly left: number
  readonly fullAfterSeconds: number
  /** null: the call may go on. */
  readonly retryAfterSeconds: number | null
}

export class RateLimit {
  readonly name: string
  readonly perMinute: number
  /** The header `RateLimit-Policy`. */
  readonly policy: string
  readonly #now: () => number
  readonly #buckets: LRUCache<string, Bucket>

  /** `perMinute` 0: no limit. */
  constructor(name: string, perMinute: number, now: () => number) {
    this.name = name
    this.perMinute = perMinute
    this.policy = `"${name}";q=${perMinute};w=${WINDOW_SECONDS}`
    this.#now = now
    this.#buckets = new LRUCache({ max: BUCKETS_MAX })
  }

  get limited(): boolean {
    return this.perMinute > 0
  }

  /** Counts a call of `caller`. */
  take(caller: string): Allowance {
    const nowMs = this.#now()
    const perMs = this.perMinute / (WINDOW_SECONDS * 1_000)
    let bucket = this.#buckets.get(caller)
    if (bucket === undefined) {
      bucket = { calls: this.perMinute, atMs: nowMs }
      this.#buckets.set(caller, bucket)
    }
    bucket.calls = Math.min(this.perMinute, bucket.calls + Math.max(0, nowMs - bucket.atMs) * perMs)
    bucket.atMs = nowMs
    const may = bucket.calls >= 1
    if (may) bucket.calls--
    return {
      left: Math.floor(bucket.calls),
      fullAfterSeconds: Math.ceil((this.perMinute - bucket.calls) / perMs / 1_000),
      retryAfterSeconds: may ? null : Math.max(1, Math.ceil((1 - bucket.calls) / perMs / 1_000)),
    }
  }

  /** The header `RateLimit`. */
  text({ left, fullAfterSeconds }: Allowance): string {
    return `"${this.name}";r=${left};t=${fullAfterSeconds}`
  }
}
