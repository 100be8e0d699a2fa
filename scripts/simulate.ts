import { simulate } from '../test/simulation/run.ts'
const [from, n, steps, store] = process.argv.slice(2)
const t0 = performance.now()
let inAll = 0, commits = 0
const counts = new Map<string, number>()
const fails = new Map<string, number[]>()
for (let seed = Number(from); seed < Number(from) + Number(n); seed++) {
  const traced = process.env.TRACE !== undefined
  const r = await simulate({ source: { seed }, steps: Number(steps), store: (store ?? null) as never, traced })
  inAll += r.stepsInAll; commits += r.commits
  for (const [k, v] of r.counts) counts.set(k, (counts.get(k) ?? 0) + v)
  if (traced) console.log(r.lines.join('\n'))
  if (r.breach) { const k = r.breach.promise; fails.set(k, [...(fails.get(k) ?? []), seed]); if ((fails.get(k)?.length ?? 0) <= 3) console.log(seed, r.store, r.steps, r.breach.promise, r.breach.text.slice(0, 600)) }
}
const ms = performance.now() - t0
console.log(`${n} schedules, ${(ms / Number(n)).toFixed(1)} ms each, ${(inAll / Number(n)).toFixed(0)} steps, ${(ms * 1000 / inAll).toFixed(1)} us/step, ${(commits / Number(n)).toFixed(1)} commits`)
for (const [k, v] of fails) console.log(k, v.length, v.slice(0, 10).join(' '))
if (process.env.COUNTS) console.log(Object.fromEntries([...counts].sort()))
