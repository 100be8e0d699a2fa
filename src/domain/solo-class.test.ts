/** When machines are moved into classes of their own, and back. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BookedLab } from '../../test/reservations/booked-lab.ts'
import { kindOf } from '../../test/support/lab.ts'
import { isRefusal } from './refusal.ts'
import { moveAlone, movesBack } from './solo-class.ts'

const [A, B] = [1, 2] as const

function vmOf(lab: BookedLab, vmId: number) {
  return lab.named.get(vmId) ?? assert.fail()
}

describe('a machine that somebody waits for by name', () => {
  it('is moved into a class of its own, and the book stays as it is', () => {
    const lab = new BookedLab({ 'small,os=debian': 2 })
    assert.deepEqual(moveAlone(lab.book, vmOf(lab, 1), lab.nowMs), { vmId: 1, classKey: 'small,os=debian#1' })
    assert.equal(lab.book.classes.get('small,os=debian')?.timeline.at(lab.nowMs), 2)
  })

  it('stays where others of its class are booked and cannot do without it', () => {
    const lab = new BookedLab({ small: 2 })
    lab.bookFor(A, [kindOf({ count: 2 })], 60, 90)
    const no = moveAlone(lab.book, vmOf(lab, 1), lab.nowMs)
    assert.ok(isRefusal(no))
    assert.deepEqual([no.code, no.details], ['vm_entangled', { vmId: 1, count: 0 }])
  })

  it('is where it has to be when it has a class of its own', () => {
    const lab = new BookedLab({ 'small#1': 1 })
    assert.equal(moveAlone(lab.book, vmOf(lab, 1), lab.nowMs), null)
  })
})

describe('a machine in a class of its own', () => {
  /** Machine 1 stands alone, machine 2 does not. */
  function alone(): BookedLab {
    return new BookedLab({ 'small,os=debian#1': 1, 'small,os=debian': 1 })
  }

  it('goes back when nobody names it', () => {
    const lab = alone()
    assert.deepEqual(movesBack(lab.book), [{ vmId: 1, classKey: 'small,os=debian' }])
    lab.bookFor(A, [kindOf()], 60, 90)
    assert.deepEqual(movesBack(lab.book), [{ vmId: 1, classKey: 'small,os=debian' }])
  })

  it('stays while it is booked by name, until that is over', () => {
    const lab = alone()
    lab.bookFor(A, [kindOf({ vmId: 1 })], 60, 90)
    assert.deepEqual(movesBack(lab.book), [])
    lab.advanceTo(60)
    assert.deepEqual(movesBack(lab.book), [])
    assert.equal(lab.vms.get(1)?.class, 'small,os=debian#1')
    lab.advanceTo(90)
    assert.equal(lab.vms.get(1)?.class, 'small,os=debian')
  })

  it('stays while a reservation that names no machine is pinned to it', () => {
    const lab = alone()
    lab.bookFor(A, [kindOf({ count: 2 })], 60, 90)
    assert.deepEqual(movesBack(lab.book), [])
    lab.giveUp('b1')
    assert.equal(movesBack(lab.book).length, 1)
  })

  it('stays while somebody waits for it', () => {
    const lab = alone()
    lab.lease(1, A, 30)
    const id = lab.join(B, { wish: [kindOf({ vmId: 1 })] })
    lab.settle()
    assert.deepEqual(movesBack(lab.book), [])
    lab.cancel(id)
    assert.equal(movesBack(lab.book).length, 1)
  })

  it('is not in a class that has no machines', () => {
    const lab = alone()
    lab.vms.delete(1)
    lab.setPool({})
    assert.deepEqual(movesBack(lab.book), [])
  })
})
