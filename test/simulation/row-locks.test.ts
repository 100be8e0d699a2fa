/** The locks of the model database: who shares, who waits, who is next, and that waiting in a circle is noticed. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type LockMode, type Row, RowLocks } from './row-locks.ts'

/** Transactions by letter, and in which order they were granted what they waited for. */
function aTable() {
  const locks = new RowLocks()
  const granted: string[] = []
  const transactions = new Map<string, object>()
  const of = (name: string): object => {
    const transaction = transactions.get(name) ?? {}
    transactions.set(name, transaction)
    return transaction
  }
  return {
    granted,
    take: (name: string, row: Row, mode: LockMode) =>
      locks.take(of(name), row, mode, () => granted.push(name)),
    held: (name: string, row: Row) => locks.held(of(name), row),
    release: (name: string) => locks.release(of(name)),
    isQuiet: () => locks.quiet,
  }
}

describe('row locks', () => {
  it('let many share a row, and one have it alone', () => {
    const table = aTable()
    assert.ok(table.take('a', 'user 1', 'shared'))
    assert.ok(table.take('b', 'user 1', 'shared'))
    assert.ok(!table.take('c', 'user 1', 'alone'))
    table.release('a')
    assert.deepEqual(table.granted, [])
    table.release('b')
    assert.deepEqual([table.granted, table.held('c', 'user 1')], [['c'], 'alone'])
  })

  it('are granted in the order in which they were asked for', () => {
    const table = aTable()
    for (const name of ['a', 'b', 'c']) table.take(name, 'pool 1', 'alone')
    // It could share with nobody ahead of it, so it waits behind them.
    assert.ok(!table.take('d', 'pool 1', 'shared'))
    table.release('a')
    table.release('b')
    table.release('c')
    assert.deepEqual(table.granted, ['b', 'c', 'd'])
    table.release('d')
    assert.ok(table.isQuiet())
  })

  it('keep others out while somebody who wants a row alone waits for it', () => {
    const table = aTable()
    table.take('a', 'user 1', 'shared')
    table.take('b', 'user 1', 'alone')
    assert.ok(!table.take('c', 'user 1', 'shared'))
  })

  it('forget who waited and is gone', () => {
    const table = aTable()
    table.take('a', 'pool 1', 'alone')
    table.take('b', 'pool 1', 'alone')
    table.release('b')
    table.release('a')
    assert.deepEqual([table.granted, table.isQuiet()], [[], true])
  })

  it('tell when transactions wait for each other in a circle', () => {
    const table = aTable()
    table.take('a', 'pool 1', 'alone')
    table.take('b', 'pool 2', 'alone')
    table.take('a', 'pool 2', 'alone')
    assert.throws(() => table.take('b', 'pool 1', 'alone'), /deadlock/)
  })
})
