/** Writes down now and then when API tokens were last used: beside the calls, which need not wait for it. */
import type { Submit } from '../service/lane.ts'
import type { Schedule } from '../service/schedule.ts'
import type { Tokens } from '../service/tokens.ts'
import type { Sweep } from './sweep.ts'

const EVERY_MS = 60_000
const USES_MAX = 200

export function tokenUseSweep({
  submit,
  tokens,
  schedule,
}: {
  submit: Submit
  tokens: Pick<Tokens, 'takeUses'>
  schedule: Pick<Schedule, 'now'>
}): Sweep {
  let nextMs = schedule.now() + EVERY_MS
  return {
    name: 'token use',
    async run() {
      if (schedule.now() < nextMs) return { atMs: nextMs }
      nextMs = schedule.now() + EVERY_MS
      const uses = tokens.takeUses()
      for (let at = 0; at < uses.length; at += USES_MAX)
        await submit({ kind: 'noteTokenUse', uses: uses.slice(at, at + USES_MAX) })
      return { atMs: nextMs }
    },
  }
}
