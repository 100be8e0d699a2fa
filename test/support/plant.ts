/**
 * `node --import ./test/support/plant.ts …`: loads one source with the deliberate mistake that BERTH_PLANT holds (planted.ts). A
 * mistake whose text is not in its file exactly once ends the process: one that is not made would count as found.
 */
import { registerHooks } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Plant } from './planted.ts'

const { file, from, to } = JSON.parse(process.env.BERTH_PLANT ?? '{}') as Plant
const path = resolve(file)
let made = false

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    if (!url.startsWith('file:') || fileURLToPath(url) !== path) return loaded
    const source = String(loaded.source)
    if (source.split(from).length !== 2) throw new Error(`not exactly once in ${file}: ${from}`)
    made = true
    return { ...loaded, source: source.replace(from, () => to) }
  },
})

process.on('exit', () => {
  if (!made) console.error(`NOT PLANTED: ${file}`)
})
