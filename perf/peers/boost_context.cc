// SPDX-License-Identifier: MIT
//
// boost_context.cc - Boost.Context: fibers in a circle, each of which resumes the next.
//
// At its best: the public class, whose resume() is inlined to one jump; stacks of 64 KiB from one
// reserved block, without guards (100,000 guarded ones exceed vm.max_map_count); control words kept,
// as Debian builds it. Who is next is known without reading the stack switched to, as in coir's row.
#include <sys/mman.h>

#include <boost/context/fiber.hpp>

#include "peer.h"

namespace ctx = boost::context;

namespace {

constexpr size_t stack_bytes = 65536;

// Hands out pieces of one block, which ends with the process.
class Block {
public:
    explicit Block(size_t stacks)
    {
        next = static_cast<char *>(mmap(nullptr, stacks * stack_bytes, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (next == MAP_FAILED)
            peer_fail("no address space");
        madvise(next, stacks * stack_bytes, MADV_NOHUGEPAGE);
    }
    ctx::stack_context allocate()
    {
        ctx::stack_context s;

        next += stack_bytes;
        s.size = stack_bytes;
        s.sp = next;
        return s;
    }

private:
    char *next;
};

struct Allocator {
    Block *block;

    ctx::stack_context allocate()
    {
        return block->allocate();
    }
    void deallocate(ctx::stack_context &)
    {
    }
};

ctx::fiber *circle; // circle[i] is fiber i while it is suspended; the first is the thread itself
size_t count, current;

// Resumes the next; whoever resumes us later is the one before.
inline void pass_on()
{
    size_t me = current, next = me + 1 == count ? 0 : me + 1;

    current = next;
    ctx::fiber before = std::move(circle[next]).resume();
    circle[me == 0 ? count - 1 : me - 1] = std::move(before);
}

// One site for all, as in coir's row: jumps are predicted by where they come from.
NOINLINE void ride(uint64_t turns)
{
    while (turns--)
        pass_on();
}

ctx::fiber enter(size_t me, ctx::fiber &&before)
{
    circle[me - 1] = std::move(before);
    ride(UINT64_MAX);
    return {}; // nobody rides that long
}

void gather(size_t fibers)
{
    static Block block(fibers);

    count = fibers;
    circle = new ctx::fiber[count];
    for (size_t i = 1; i < count; i++)
        circle[i] = ctx::fiber(std::allocator_arg, Allocator{&block},
                               [i](ctx::fiber &&before) { return enter(i, std::move(before)); });
    ride(1); // the first touch of every stack
}

void go_round(struct peer *p)
{
    if (!circle)
        gather(static_cast<size_t>(p->size));

    uint64_t turns = p->n / count + 1;
    int64_t start = peer_now();

    ride(turns);
    p->ns = peer_now() - start;
    p->done = turns * count;
}

const struct peer_row rows[] = {{"switch/#", go_round, 0, 0}};

} // namespace

PEER_MAIN(rows)
