/**
 * Deliberate mistakes: edits of source texts that are made while the files are loaded, so that tests can be shown to fail. The
 * product itself has no switch for any of it.
 */
import { registerHooks } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Edit {
  /** From the project's folder. */
  readonly file: string
  /** Has to be in the file exactly once. */
  readonly from: string
  readonly to: string
}

/**
 * From now on, sources are loaded with these edits. One whose text is not in its file exactly once, or whose file is never loaded,
 * ends the process with a failure: a mistake that is not made would count as found.
 */
export function makeMistake(name: string, mistake: readonly Edit[]): void {
  const edits = mistake.map((edit) => ({ ...edit, path: resolve(edit.file), made: false }))

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
}
