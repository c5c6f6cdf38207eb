// SPDX-License-Identifier: MIT
//
// boost_fiber.cc - Boost.Fiber: fibers, schedulers, buffered channels.
//
// At its best: stacks from a free list per thread, so that none is mapped or freed while it is
// measured (pooled_fixedsize_stack is for one thread only); round_robin on one thread, work_stealing
// that does not suspend on several; polling by a scheduler that returns at once from suspend_until.
// Parked fibers have guarded stacks of 64 KiB (protected_fixedsize_stack), as coir's do.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/all.hpp>

#include "../work.h"
#include "peer.h"

namespace fib = boost::fibers;

namespace {

constexpr size_t stack_bytes = 65536;
constexpr int batch = 1000;

// ------------------------------------------------------------------------------------- stacks

// Read anew each time: a fiber may have changed threads.
NOINLINE std::vector<void *> &free_stacks()
{
    static thread_local std::vector<void *> list;

    return list;
}

struct Pool {
    boost::context::stack_context allocate()
    {
        auto &list = free_stacks();
        boost::context::stack_context s;
        void *memory;

        if (list.empty()) {
            memory = std::malloc(stack_bytes);
        } else {
            memory = list.back();
            list.pop_back();
        }
        if (!memory)
            throw std::bad_alloc();
        s.size = stack_bytes;
        s.sp = static_cast<char *>(memory) + stack_bytes;
        return s;
    }
    void deallocate(boost::context::stack_context &s)
    {
        free_stacks().push_back(static_cast<char *>(s.sp) - s.size);
    }
};

template <typename F> fib::fiber start(F f)
{
    return fib::fiber(fib::launch::post, std::allocator_arg, Pool(), std::move(f));
}

// ------------------------------------------------------------------------------ spawn and yield

// Threads that steal from the calling one, for ever: peer.h ends the process under them.
void steal_from_me(long threads)
{
    static std::atomic<bool> started{false};
    auto use = [threads] {
        fib::use_scheduling_algorithm<fib::algo::work_stealing>(static_cast<uint32_t>(threads));
    };

    if (threads < 2 || started.exchange(true))
        return;
    for (long i = 1; i < threads; i++)
        std::thread([use] {
            fib::mutex mutex;
            fib::condition_variable never;

            use();
            std::unique_lock<fib::mutex> lock(mutex);
            never.wait(lock, [] { return false; });
        }).detach();
    use();
}

void spawn_and_join(struct peer *p, uint64_t jobs, long threads)
{
    uint64_t rounds = (p->n + jobs - 1) / jobs;
    std::vector<fib::fiber> crowd(jobs);

    steal_from_me(threads);
    int64_t begin = 0;

    for (uint64_t i = 0; i <= rounds; i++) {
        if (i == 1) // the first round makes the stacks
            begin = peer_now();
        for (auto &one : crowd)
            one = start([] {});
        for (auto &one : crowd)
            one.join();
    }
    p->ns = peer_now() - begin;
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

void go_deeper(long levels)
{
    if (levels > 1)
        start([levels] { go_deeper(levels - 1); }).join();
}

void depth(struct peer *p)
{
    uint64_t levels = static_cast<uint64_t>(p->size), times = p->n / levels + 1;

    go_deeper(p->size);
    int64_t begin = peer_now();

    for (uint64_t i = 0; i < times; i++)
        go_deeper(p->size);
    p->ns = peer_now() - begin;
    p->done = times * levels;
}

void yield(struct peer *p)
{
    uint64_t fibers = static_cast<uint64_t>(p->size), rounds = p->n / fibers + 1;
    uint64_t arrived = 0, ended = 0;
    int64_t begin = 0;
    std::vector<fib::fiber> crowd(fibers);

    for (auto &one : crowd)
        one = start([&] {
            if (++arrived == fibers)
                begin = peer_now();
            while (arrived < fibers)
                boost::this_fiber::yield();
            for (uint64_t i = 0; i < rounds; i++)
                boost::this_fiber::yield();
            if (++ended == fibers)
                p->ns = peer_now() - begin;
        });
    for (auto &one : crowd)
        one.join();
    p->done = rounds * fibers;
}

// ------------------------------------------------------------------------------ there and back

// Looks for work for ever instead of going to sleep.
class Polling : public fib::algo::round_robin {
public:
    void suspend_until(std::chrono::steady_clock::time_point const &) noexcept override
    {
    }
    void notify() noexcept override
    {
    }
};

using Channel = fib::buffered_channel<int>;

template <typename Scheduler> void ping_pong(struct peer *p)
{
    Channel ping(2), pong(2);
    std::vector<int64_t> sample(p->n);
    std::thread answers([&] {
        int ball;

        peer_pin(1);
        fib::use_scheduling_algorithm<Scheduler>();
        while (ping.pop(ball) == fib::channel_op_status::success)
            pong.push(ball);
    });
    std::thread asks([&] {
        int64_t begin = peer_now(), before = begin;
        int ball = 0;

        peer_pin(0);
        fib::use_scheduling_algorithm<Scheduler>();
        for (auto &one : sample) {
            ping.push(ball);
            pong.pop(ball);
            int64_t now = peer_now();
            one = now - before;
            before = now;
        }
        p->ns = before - begin;
        ping.close();
    });

    asks.join();
    answers.join();
    p->figure = peer_median(sample.data(), sample.size());
}

// ------------------------------------------------------------------------- from hand to hand

// As in handoff_perf.c: on one worker a pair of fibers, on more four pairs.
long pairs(long threads)
{
    return threads < 2 ? 1 : 4;
}

void hand_mutex(struct peer *p)
{
    std::vector<fib::fiber> crowd(static_cast<size_t>(pairs(p->size) * 2));
    uint64_t turns = p->n / crowd.size() + 1;
    fib::mutex mutex;

    steal_from_me(p->size);
    int64_t begin = peer_now();

    for (auto &one : crowd)
        one = start([&] {
            for (uint64_t i = 0; i < turns; i++) {
                std::lock_guard<fib::mutex> lock(mutex);

                boost::this_fiber::yield();
            }
        });
    for (auto &one : crowd)
        one.join();
    p->ns = peer_now() - begin;
    p->done = turns * crowd.size();
}

template <typename Queue> void hand_elements(struct peer *p, Queue &queue)
{
    std::vector<fib::fiber> crowd;
    uint64_t turns = p->n / static_cast<uint64_t>(pairs(p->size)) + 1;

    steal_from_me(p->size);
    int64_t begin = peer_now();

    for (long i = 0; i < pairs(p->size); i++) {
        crowd.push_back(start([&] {
            for (uint64_t j = 0; j < turns; j++)
                queue.push(j);
        }));
        crowd.push_back(start([&] {
            uint64_t element;

            for (uint64_t j = 0; j < turns; j++)
                queue.pop(element);
        }));
    }
    for (auto &one : crowd)
        one.join();
    p->ns = peer_now() - begin;
    p->done = turns * crowd.size() / 2;
}

// One at a time: the unbuffered channel, which is faster here than a buffered one of two.
void hand_channel(struct peer *p)
{
    fib::unbuffered_channel<uint64_t> one;
    fib::buffered_channel<uint64_t> many(128);

    if (p->size < 2)
        hand_elements(p, one);
    else
        hand_elements(p, many);
}

// -------------------------------------------------------------------------------- from outside

using Job = void (*)();

void empty()
{
}

void submit(struct peer *p)
{
    fib::buffered_channel<Job> jobs(1024);
    uint64_t each = p->n / 2 + 1;
    std::vector<std::thread> producers, workers;
    int64_t begin = peer_now();

    for (long i = 0; i < p->size; i++)
        workers.emplace_back([&] {
            Job job;

            fib::use_scheduling_algorithm<Polling>();
            while (jobs.pop(job) == fib::channel_op_status::success)
                job();
        });
    for (int i = 0; i < 2; i++)
        producers.emplace_back([&] {
            for (uint64_t j = 0; j < each; j++)
                jobs.push(empty);
        });
    for (auto &one : producers)
        one.join();
    jobs.close();
    for (auto &one : workers)
        one.join();
    p->ns = peer_now() - begin;
    p->done = each * 2;
}

// ----------------------------------------------------------------------------------- open loop

void tail(struct peer *p, struct work_load load)
{
    fib::buffered_channel<struct work_job *> jobs(65536);
    struct work_stream s = work_open(load);
    int64_t begin = peer_now();
    std::vector<std::thread> workers;

    if (!s.job)
        peer_fail("no memory");
    for (int i = 0; i < load.servers; i++)
        workers.emplace_back([&] {
            struct work_job *job;

            if (load.servers == 1)
                peer_pin(1);
            fib::use_scheduling_algorithm<Polling>();
            while (jobs.pop(job) == fib::channel_op_status::success)
                work_do(job);
        });
    if (load.servers == 1)
        peer_pin(0);
    work_begin(&s);
    for (int i = 0; i < s.jobs; i++) {
        work_await(&s, &s.job[i]);
        while (jobs.try_push(&s.job[i]) == fib::channel_op_status::full)
            ;
    }
    jobs.close();
    for (auto &one : workers)
        one.join();
    p->ns = peer_now() - begin;
    peer_tail(p, work_close(&s));
}

// ------------------------------------------------------------------------- memory, open, close

// What n fibers that wait cost: bytes or ns each.
void park(struct peer *p, bool bytes)
{
    fib::mutex mutex;
    fib::condition_variable gate;
    bool open = false;
    uint64_t arrived = 0;
    std::vector<fib::fiber> crowd;

    crowd.reserve(p->n);
    double before = peer_memory();
    int64_t begin = peer_now();
    for (uint64_t i = 0; i < p->n; i++) {
        crowd.emplace_back(fib::launch::post, std::allocator_arg,
                           fib::protected_fixedsize_stack(stack_bytes), [&] {
                               std::unique_lock<fib::mutex> lock(mutex);

                               arrived++;
                               gate.wait(lock, [&] { return open; });
                           });
        if (i % 256 == 255)
            boost::this_fiber::yield();
    }
    while (arrived < p->n)
        boost::this_fiber::yield();
    p->ns = peer_now() - begin;
    if (bytes)
        p->figure = (peer_memory() - before) / static_cast<double>(p->n);
    open = true;
    gate.notify_all();
    for (auto &one : crowd)
        one.join();
}

void weigh(struct peer *p)
{
    park(p, true);
}

void make(struct peer *p)
{
    park(p, false);
}

void open_close(struct peer *p)
{
    auto worker = [] {
        fib::use_scheduling_algorithm<fib::algo::round_robin>();
        start([] {}).join();
    };
    int64_t begin = peer_now();

    for (uint64_t i = 0; i < p->n; i++) {
        std::thread one(worker), two(worker);

        one.join();
        two.join();
    }
    p->ns = peer_now() - begin;
}

const struct peer_row rows[] = {
    {"spawn/#", spawn, 0, 0},
    {"fanout/#", fan_out, 0, 0},
    {"yield/#", yield, 1000000, 0},
    {"depth/#", depth, 0, 0},
    {"wake/polling", ping_pong<Polling>, 0, 0},
    {"wake/parked", ping_pong<fib::algo::round_robin>, 0, 0},
    {"handoff/mutex/#", hand_mutex, 0, 0},
    {"handoff/channel/#", hand_channel, 0, 0},
    {"submit/#", submit, 0, 0},
    PEER_TAILS(tail),
    {"memory/parked", weigh, 10000, 0}, // 32,000 guarded stacks are the end: vm.max_map_count
    {"memory/cold", make, 10000, 0},
    {"open", open_close, 0, 0},
};

} // namespace

PEER_MAIN(rows)
