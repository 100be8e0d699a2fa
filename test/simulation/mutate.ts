/**
 * `node --import ./test/simulation/mutate.ts …`: loads the sources with the deliberate mistake that BERTH_MUTANT names. An edit
 * whose text is not in its file exactly once ends the process: a mistake that is not made would count as found.
 */
import { registerHooks } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MUTANTS } from './mutants.ts'

const name = process.env.BERTH_MUTANT ?? ''
const mutant = MUTANTS[name]
if (mutant === undefined)
  throw new Error(`BERTH_MUTANT is '${name}': it must be one of ${Object.keys(MUTANTS).join(', ')}`)
const edits = mutant.edits.map((edit) => ({ ...edit, path: resolve(edit.file), made: false }))

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context)
    const mine = url.startsWith('file:') ? edits.filter(({ path }) => path === fileURLToPath(url)) : []
    let source = mine.length === 0 ? '' : String(loaded.source)
    for (const edit of mine) {
      const times = source.split(edit.from).length - 1
      if (times !== 1)
        throw new Error(`mutant ${name}: its text is ${times} times in ${edit.file}: ${edit.from}`)
      source = source.replace(edit.from, () => edit.to)
      edit.made = true
    }
    return mine.length === 0 ? loaded : { ...loaded, source }
  },
})

process.on('exit', () => {
  const missed = edits.filter(({ made }) => !made)
  if (missed.length > 0) {
    console.error(`mutant ${name}: never loaded: ${missed.map(({ file }) => file).join(', ')}`)
    process.exitCode = 3
  }
})
