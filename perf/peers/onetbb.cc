// SPDX-License-Identifier: MIT
//
// onetbb.cc - oneTBB: task_group, task_arena, parallel_for.
//
// At its best: as many threads as the row has workers (global_control), batches inside an arena of
// that size, so that the waiting thread is one of them; fib runs one half itself; jobs from outside
// are enqueued, which is what the arena offers foreign threads; parallel_for with its default, the
// automatic partitioner.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <oneapi/tbb.h>

#include "../work.h"
#include "peer.h"

namespace tbb = oneapi::tbb;

namespace {

constexpr int batch = 1000;

// Threads for this row, the calling one among them; one more when it does not take part itself.
void allow(long threads)
{
    static std::unique_ptr<tbb::global_control> limit;

    if (!limit)
        limit = std::make_unique<tbb::global_control>(
            tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads));
}

// Binds the worker of an arena to a processor.
class Pin : public tbb::task_scheduler_observer {
public:
    Pin(tbb::task_arena &arena, unsigned on) : task_scheduler_observer(arena), cpu(on)
    {
        observe(true);
    }
    ~Pin() override
    {
        observe(false);
    }
    void on_scheduler_entry(bool) override
    {
        peer_pin(cpu);
    }

private:
    unsigned cpu;
};

// Binds each thread of an arena to a processor of its own.
class PinEach : public tbb::task_scheduler_observer {
public:
    explicit PinEach(tbb::task_arena &arena) : task_scheduler_observer(arena)
    {
        observe(true);
    }
    ~PinEach() override
    {
        observe(false);
    }
    void on_scheduler_entry(bool) override
    {
        peer_pin(static_cast<unsigned>(tbb::this_task_arena::current_thread_index()));
    }
};

// ------------------------------------------------------------------------------- fork and join

void spawn_and_join(struct peer *p, uint64_t jobs, long threads)
{
    allow(threads);
    tbb::task_arena arena(static_cast<int>(threads));
    uint64_t rounds = (p->n + jobs - 1) / jobs;

    arena.execute([&] {
        int64_t start = 0;

        for (uint64_t i = 0; i <= rounds; i++) {
            if (i == 1) // the first round makes what is kept for the next
                start = peer_now();
            tbb::task_group group;

            for (uint64_t j = 0; j < jobs; j++)
                group.run([] {});
            group.wait();
        }
        p->ns = peer_now() - start;
    });
    p->done = rounds * jobs;
}

void spawn(struct peer *p)
{
    spawn_and_join(p, batch, p->size);
}

void fan_out(struct peer *p)
{
    spawn_and_join(p, static_cast<uint64_t>(p->size), 1);
}

long fib(long n)
{
    long left;

    if (n < 2)
        return n;
    tbb::task_group group;
    group.run([&left, n] { left = fib(n - 1); });
    long right = fib(n - 2);
    group.wait();
    return left + right;
}

// The greatest fib of at most n calls, which are 2 * fib(k + 1) - 1.
void fork_join(struct peer *p)
{
    long k = 1, is = 1, next = 1, sum;

    for (; static_cast<uint64_t>(2 * (is + next) - 1) <= p->n; k++) {
        sum = is + next;
        is = next;
        next = sum;
    }
    allow(p->size);
    tbb::task_arena arena(static_cast<int>(p->size));

    arena.execute([&] {
        int64_t start = peer_now();

        if (fib(k) != is)
            peer_fail("fib came out wrong");
        p->ns = peer_now() - start;
    });
    p->done = static_cast<uint64_t>(2 * next - 1);
}

void go_deeper(long levels)
{
    if (levels <= 1)
        return;
    tbb::task_group below;
    below.run([levels] { go_deeper(levels - 1); });
    below.wait();
}

void depth(struct peer *p)
{
    allow(1);
    tbb::task_arena arena(1);
    uint64_t levels = static_cast<uint64_t>(p->size), times = p->n / levels + 1;

    arena.execute([&] {
        go_deeper(p->size);
        int64_t start = peer_now();

        for (uint64_t i = 0; i < times; i++)
            go_deeper(p->size);
        p->ns = peer_now() - start;
    });
    p->done = times * levels;
}

// --------------------------------------------------------------------------------- many items

void items(struct peer *p)
{
    static std::vector<uint32_t> out(WORK_ITEMS);

    allow(p->size);
    tbb::task_arena arena(static_cast<int>(p->size));
    PinEach bound(arena);
    auto fill = [] {
        tbb::parallel_for(tbb::blocked_range<size_t>(0, WORK_ITEMS), [](auto &range) {
            work_items(out.data(), range.begin(), range.end());
        });
    };

    arena.execute([&] {
        int64_t pass[WORK_PASSES];

        fill(); // all threads are there now
        for (int64_t &ns : pass) {
            int64_t start = peer_now();

            fill();
            ns = peer_now() - start;
            p->ns += ns;
        }
        p->figure = peer_median(pass, WORK_PASSES) / WORK_ITEMS;
    });
}

// -------------------------------------------------------------------------------- from outside

struct alignas(64) Count {
    std::atomic<uint64_t> jobs{0};
};

// One more, of the calling thread of an arena.
void count(std::vector<Count> &done)
{
    auto &mine = done[static_cast<size_t>(tbb::this_task_arena::current_thread_index())].jobs;

    mine.store(mine.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

// Until so many have been counted.
void await(const std::vector<Count> &done, uint64_t jobs)
{
    for (uint64_t seen = 0; seen < jobs;) {
        std::this_thread::yield();
        seen = 0;
        for (auto &one : done)
            seen += one.jobs.load(std::memory_order_acquire);
    }
}

void submit(struct peer *p)
{
    const int workers = static_cast<int>(p->size);

    allow(p->size + 1);
    tbb::task_arena arena(workers, 0);
    std::vector<Count> done(static_cast<size_t>(workers) + 1);
    uint64_t each = p->n / 2 + 1;
    auto producer = [&] {
        for (uint64_t i = 0; i < each; i++)
            arena.enqueue([&done] { count(done); });
    };
    int64_t start = peer_now();
    std::thread one(producer), two(producer);

    one.join();
    two.join();
    await(done, each * 2);
    p->ns = peer_now() - start;
    p->done = each * 2;
}

// ------------------------------------------------------------------------------ there and back

// Two arenas with a worker each, which give each other a task: no thread waits inside one.
class Table {
public:
    explicit Table(uint64_t trips) : sample(trips)
    {
    }
    double play(int64_t *ns)
    {
        int64_t start = peer_now();

        asks.enqueue([this] { ask(); });
        while (!over.load(std::memory_order_acquire))
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        *ns = peer_now() - start;
        return peer_median(sample.data(), sample.size());
    }

private:
    void ask()
    {
        int64_t now = peer_now();

        if (trip)
            sample[trip - 1] = now - sent;
        if (trip++ == sample.size()) {
            over.store(true, std::memory_order_release);
            return;
        }
        sent = now;
        answers.enqueue([this] { asks.enqueue([this] { ask(); }); });
    }

    tbb::task_arena asks{1, 0}, answers{1, 0};
    Pin first{asks, 0}, second{answers, 1};
    std::vector<int64_t> sample;
    uint64_t trip = 0;
    int64_t sent = 0;
    std::atomic<bool> over{false};
};

void ping_pong(struct peer *p)
{
    allow(3);
    p->figure = Table(p->n).play(&p->ns);
}

// ----------------------------------------------------------------------------------- open loop

void tail(struct peer *p, struct work_load load)
{
    allow(load.servers + 1);
    tbb::task_arena arena(load.servers, 0);
    std::vector<Count> done(static_cast<size_t>(load.servers) + 1);
    struct work_stream s = work_open(load);
    std::unique_ptr<Pin> pin;
    int64_t start = peer_now();

    if (!s.job)
        peer_fail("no memory");
    if (load.servers == 1) {
        pin = std::make_unique<Pin>(arena, 1);
        peer_pin(0);
    }
    for (int i = 0; i < load.servers; i++) // starts the threads
        arena.enqueue([&done] { count(done); });
    await(done, static_cast<uint64_t>(load.servers));
    work_begin(&s);
    for (int i = 0; i < s.jobs; i++) {
        work_await(&s, &s.job[i]);
        arena.enqueue([&done, mine = &s.job[i]] {
            work_do(mine);
            count(done);
        });
    }
    await(done, static_cast<uint64_t>(load.servers + s.jobs));
    p->ns = peer_now() - start;
    peer_tail(p, work_close(&s));
}

// ----------------------------------------------------------------------------- open and close

// Two threads that have run a task each; then all of it ends.
void open_close(struct peer *p)
{
    allow(3);
    int64_t start = peer_now();

    for (uint64_t i = 0; i < p->n; i++) {
        tbb::task_scheduler_handle handle{tbb::attach{}};
        {
            tbb::task_arena arena(2, 0);
            std::atomic<bool> ran{false};

            arena.enqueue([&] { ran.store(true, std::memory_order_release); });
            while (!ran.load(std::memory_order_acquire))
                std::this_thread::yield();
        }
        if (!tbb::finalize(handle, std::nothrow))
            peer_fail("finalize failed");
    }
    p->ns = peer_now() - start;
}

const struct peer_row rows[] = {
    {"spawn/#", spawn, 0, 0},
    {"fanout/#", fan_out, 0, 0},
    {"fib/#", fork_join, 7049155, 0}, // calls of fib, to compute fib(32)
    {"depth/#", depth, 0, 0},
    {"parallel_for/#", items, WORK_ITEMS, 0},
    {"submit/#", submit, 0, 0},
    {"wake/polling", ping_pong, 0, 0},
    PEER_TAILS(tail),
    {"open", open_close, 0, 0},
};

} // namespace

PEER_MAIN(rows)
