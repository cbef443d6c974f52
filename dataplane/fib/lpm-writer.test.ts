/** What the writer refuses, what it leaves unchanged when it has no room, and when it gives memory back. */
import t from 'tap'
import { ROOT4, epochWord } from './layout.js'
import { attachFibReader } from './lpm.js'
import { createFib, type LpmWriter } from './lpm-writer.js'
import { MIN_RESERVE } from './pool-writer.js'

const ANY6 = new Uint8Array(16)

/** Memory in use, without what was only touched. */
function inUse(writer: LpmWriter): readonly number[] {
  const { nodeBytes, listBytes, waiting } = writer.memory()
  return [nodeBytes, listBytes, waiting]
}

/** Inserts a /32 in one /24 after another until the reserve is full. @returns how many went in */
function fill(writer: LpmWriter): number {
  for (let i = 0; ; i++) {
    try {
      writer.insert4((10 << 24) + (i << 8) + 1, 32, 1 + (i & 0xff))
    } catch (error) {
      t.match(error, { name: 'RangeError', message: /raise reserveBytes of createFib/ })
      return i
    }
  }
}

t.test('arguments that are no prefix, hop or option', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  const bad4: [number, number, number][] = [
    [0x0a000001, 24, 1],
    [0x0a000000, 33, 1],
    [0x0a000000, -1, 1],
    [0x0a000000, 8.5, 1],
    [NaN, 0, 1],
    [2 ** 32, 0, 1],
    [-(2 ** 31) - 1, 32, 1],
    [1, 0, 1],
    [0x0a000000, 8, 0],
    [0x0a000000, 8, -1],
    [0x0a000000, 8, 2 ** 31],
    [0x0a000000, 8, 1.5],
  ]
  for (const [addr, len, hop] of bad4) {
    t.throws(
      () => {
        writer.insert4(addr, len, hop)
      },
      RangeError,
      `${addr}/${len} ${hop}`,
    )
  }
  t.throws(() => writer.remove4(0x0a000001, 24), RangeError)
  t.throws(() => {
    writer.insert6(ANY6, 129, 1)
  }, RangeError)
  t.throws(() => {
    writer.insert6(ANY6, 0, 0)
  }, RangeError)
  t.throws(() => {
    writer.insert6(new Uint8Array(4), 0, 1)
  }, RangeError)
  t.throws(() => {
    writer.insert6(new Uint8Array(16).fill(1, 15), 127, 1)
  }, RangeError)
  t.throws(() => writer.remove6(new Uint8Array(17), 128), RangeError)
  t.equal(writer.size4 + writer.size6, 0)
  for (const reader of [-1, 1, 0.5, NaN]) {
    t.throws(() => attachFibReader(shared, reader), RangeError, `reader ${reader}`)
  }
  for (const options of [
    { readers: 0 },
    { readers: 1.5 },
    { readers: 1, reserveBytes: MIN_RESERVE - 1 },
    { readers: 1, maxHops: 1 },
  ]) {
    t.throws(() => createFib(options), RangeError, JSON.stringify(options))
  }
  t.end()
})

t.test('uint32 and int32 name the same prefix', (t) => {
  const { writer } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  writer.insert4(0xc0000200, 24, 1)
  t.ok(writer.remove4(0xc0000200 | 0, 24))
  t.equal(writer.size4, 0)
  t.end()
})

t.test(
  'a full reserve: the insert fails and changes nothing; changes of what is there still work',
  (t) => {
    const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
    const reader = attachFibReader(shared, 0)
    const empty = writer.memory()
    const count = fill(writer)
    t.ok(count > 1000, `${String(count)} routes fit`)
    const full = writer.memory()
    t.throws(
      () => {
        writer.insert4((10 << 24) + (count << 8) + 1, 32, 1)
      },
      RangeError,
      'again',
    )
    t.same(writer.memory(), full)
    t.equal(writer.size4, count)
    reader.enter()
    let wrong = 0
    for (let i = 0; i <= count; i++) {
      const want = i < count ? 1 + (i & 0xff) : 0
      if (reader.lookup4((10 << 24) + (i << 8) + 1) !== want) wrong++
    }
    reader.leave()
    t.equal(wrong, 0, 'every route answers as before')
    writer.insert4((10 << 24) + 1, 32, 70_000)
    for (let i = 0; i < count; i++) writer.remove4((10 << 24) + (i << 8) + 1, 32)
    t.equal(writer.memory().nodeBytes, empty.nodeBytes)
    t.equal(fill(writer), count, 'as many fit again')
    t.end()
  },
)

t.test('an update is all or nothing', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  const reader = attachFibReader(shared, 0)
  const look = (dst: number): number => {
    reader.enter()
    const hop = reader.lookup4(dst)
    reader.leave()
    return hop
  }
  writer.insert4(0x0a000000, 8, 1)
  writer.insert4(0x0a050000, 16, 2)
  const inUseBefore = inUse(writer)
  const breakOff = (): void => {
    writer.remove4(0x0a050000, 16)
    writer.insert4(0x0a060000, 16, 3)
    writer.insert6(ANY6, 0, 4)
    t.equal(look(0x0a050000), 2, 'nobody sees an update that is under way')
    throw new Error('changed my mind')
  }
  t.throws(
    () => {
      writer.update(breakOff)
    },
    { message: 'changed my mind' },
  )
  t.equal(look(0x0a050000), 2)
  t.equal(look(0x0a060000), 1)
  t.same([writer.size4, writer.size6], [2, 0])
  t.same(inUse(writer), inUseBefore)
  t.throws(
    () => {
      writer.update(() => {
        fill(writer)
      })
    },
    { message: /raise reserveBytes/ },
    'a change that failed fails the update, even if its error was caught inside',
  )
  t.same([writer.size4, look(0x0a000001)], [2, 1])
  t.same(inUse(writer), inUseBefore)
  t.throws(() => {
    writer.update(() => {
      writer.update(() => undefined)
    })
  }, /within another/)
  writer.update(() => {
    writer.remove4(0x0a050000, 16)
    writer.insert4(0x0a060000, 16, 3)
  })
  t.same([look(0x0a050000), look(0x0a060000)], [1, 3])
  t.end()
})

t.test('replaced nodes wait for readers that are in a breath, and for no others', (t) => {
  const { writer, shared } = createFib({ readers: 3, reserveBytes: MIN_RESERVE })
  const [first, second] = [attachFibReader(shared, 0), attachFibReader(shared, 1)]
  writer.insert4(0x0a000000, 8, 1)
  const { nodeBytes } = writer.memory()
  first.enter()
  second.enter()
  for (let hop = 2; hop < 40; hop++) writer.insert4(0x0a000000, 8, hop)
  t.ok(writer.memory().waiting >= 38, 'every version the readers may have is kept')
  t.equal(first.lookup4(0x0a000000), 1)
  first.leave()
  t.ok(writer.memory().waiting >= 38, 'the other reader still holds them')
  for (let breath = 0; breath < 2; breath++) {
    second.leave()
    second.enter()
    t.equal(second.lookup4(0x0a000000), 39, 'a new breath has the new root')
    writer.memory()
  }
  t.equal(writer.memory().waiting, 0, 'and holds nothing older')
  t.equal(writer.memory().nodeBytes, nodeBytes)
  second.leave()
  t.end()
})

t.test('a reader that dies in a breath is made even by its successor', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  attachFibReader(shared, 0).enter()
  writer.insert4(0x0a000000, 8, 1)
  t.ok(writer.memory().waiting > 0)
  attachFibReader(shared, 0)
  t.equal(writer.memory().waiting, 0)
  t.end()
})

t.test('a reserve full of nodes that wait for a stuck reader says so, after a moment', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  const reader = attachFibReader(shared, 0)
  writer.insert4(0x0a000000, 8, 1)
  reader.enter()
  t.throws(() => {
    for (let i = 0; i < 1e6; i++) writer.insert4(0x0a000000, 8, 1 + (i & 1))
  }, /raise reserveBytes/)
  t.equal(reader.lookup4(0x0a000001), 1, 'its table is whole')
  reader.leave()
  writer.insert4(0x0a000000, 8, 7)
  reader.enter()
  t.equal(reader.lookup4(0x0a000001), 7)
  reader.leave()
  t.end()
})

/** Runs `act` once, right after the next atomic load of a word of shared memory. */
function afterLoadOf(word: number, act: () => void): void {
  const load = Atomics.load
  Atomics.load = ((words: Int32Array, index: number): number => {
    const value = load(words, index)
    if (index === word) {
      Atomics.load = load
      act()
    }
    return value
  }) as typeof load
}

t.test('the writer strikes between a reader’s load of the root and its first lookup', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  const reader = attachFibReader(shared, 0)
  writer.insert4(0x0a000000, 8, 1)
  afterLoadOf(ROOT4, () => {
    writer.insert4(0x0a000000, 8, 2)
    t.ok(writer.memory().waiting > 0, 'the old root waits for the reader that has it')
  })
  reader.enter()
  t.equal(reader.lookup4(0x0a000000), 1)
  reader.leave()
  t.equal(writer.memory().waiting, 0)
  t.end()
})

t.test('a reader enters right after the writer saw it outside', (t) => {
  const { writer, shared } = createFib({ readers: 1, reserveBytes: MIN_RESERVE })
  const reader = attachFibReader(shared, 0)
  writer.insert4(0x0a000000, 8, 1)
  afterLoadOf(epochWord(0), () => {
    reader.enter()
  })
  writer.insert4(0x0a000000, 8, 2)
  t.equal(reader.lookup4(0x0a000000), 2, 'it has the new root, for the old one is free')
  reader.leave()
  t.end()
})
