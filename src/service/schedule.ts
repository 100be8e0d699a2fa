/**
 * What the world outside gives to lanes, workers and the feed: nothing in Berth but the composition root reads a clock,
 * sets a timer or draws a random number by itself, so that a simulation can hold all of them.
 */
export interface Schedule {
  /** Epoch milliseconds. */
  now(): number
  /** Resolves after `ms`, or as soon as `signal` is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Lets everything else that is ready go first. */
  pause(): Promise<void>
  /** A number in [0, 1). */
  random(): number
}
