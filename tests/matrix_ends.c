/* SPDX-License-Identifier: MIT */
/*
 * matrix_ends.c - rows of the propagation matrix: what runs when something ends, what is woken from
 * elsewhere, and the closing of runtimes and domains.
 */
#include "domains.h"
#include "matrix.h"
#include "sockets.h"

#include <pthread.h>

static void nop(void *unused)
{
    (void)unused;
}

/* ------------------------------------------------------------------------------- handlers, finalizers */

static void defer_both(void *other)
{
    CHECK_EQ(coir_defer(job_count, other), COIR_OK);
    CHECK_EQ(coir_defer(job_panic, NULL), COIR_OK); /* runs first */
}

void defer_handler(struct scene *s)
{
    int other = 0;

    waiter_runs(s, defer_both, &other);
    if (other == 1)
        peer_saw(s, "other handler runs");
}

static void defer_and_panic(void *unused)
{
    CHECK_EQ(coir_defer(job_panic, unused), COIR_OK);
    coir_panic("first");
}

void defer_handler_after_panic(struct scene *s)
{
    waiter_runs(s, defer_and_panic, NULL);
    if (scene_kept(s).location == COIR_AT_JOB && scene_kept(s).location == COIR_AT_DEFER)
        peer_saw(s, "both are kept");
}

static const coir_local explosive = COIR_LOCAL_INIT(job_panic);

static void set_local(void *unused)
{
    CHECK_EQ(coir_local_set(&explosive, &unused), COIR_OK);
}

void local_destructor(struct scene *s)
{
    waiter_runs(s, set_local, NULL);
}

static void set_local_and_fail(void *unused)
{
    set_local(unused);
    coir_fail(1, "first");
}

void local_destructor_after_fail(struct scene *s)
{
    waiter_runs(s, set_local_and_fail, NULL);
}

static void fail(void *unused)
{
    (void)unused;
    coir_fail(1, "planned");
}

static const coir_local failing = COIR_LOCAL_INIT(fail);

static void set_failing(void *unused)
{
    CHECK_EQ(coir_local_set(&failing, &unused), COIR_OK);
}

void local_destructor_fails(struct scene *s)
{
    waiter_runs(s, set_failing, NULL);
}

void finalizer(struct scene *s)
{
    coir_domain *d = domain_open(s->rt, NULL, NULL);
    coir_domain_receipt r;
    int other = 0;

    CHECK_EQ(coir_domain_finalizer(d, job_count, &other), COIR_OK);
    CHECK_EQ(coir_domain_finalizer(d, job_panic, NULL), COIR_OK); /* runs first */
    waiter_saw(s, domain_run(d, nop, NULL, NULL), NULL);
    peer_saw(s, "close %s", short_name(coir_domain_close(d, -1, &r)));
    peer_saw(s, "%d of %d finalizers panicked", (int)r.finalizer_panics, (int)r.finalizers);
    CHECK_EQ(other, 1);
}

/* -------------------------------------------------------------------------------- time, I/O, threads */

static void sleep_and_panic(void *ns)
{
    CHECK_EQ(coir_sleep_until(coir_now() + *(int64_t *)ns), COIR_OK);
    coir_panic("planned");
}

/* On a busy machine the time may have passed before it is slept: then a longer one. */
void sleeper(struct scene *s)
{
    uint32_t resumes;
    int64_t ns = COIR_MS / 20;

    do {
        ns *= 2;
        waiter_runs(s, sleep_and_panic, &ns);
        resumes = scene_kept(s).resumes;
    } while (resumes == 0);
    peer_saw(s, "resumed %u", resumes);
}

static void time_out_and_panic(void *status)
{
    coir_event never = COIR_EVENT_INIT;

    *(int *)status = coir_event_wait_until(&never, coir_now() + COIR_MS / 10);
    coir_panic("planned");
}

void waiter_with_deadline(struct scene *s)
{
    int status = 0;

    waiter_runs(s, time_out_and_panic, &status);
    peer_saw(s, "its wait %s", short_name(status));
}

static void close_socket(void *fd)
{
    CHECK_EQ(coir_socket_close(*(int *)fd), COIR_OK);
}

static void receive_and_panic(void *fd)
{
    char byte;

    CHECK_EQ(coir_defer(close_socket, fd), COIR_OK);
    CHECK_EQ(coir_socket_recv(*(int *)fd, &byte, 1), 1);
    coir_panic("planned");
}

/* Whose receiver panics. */
struct sender {
    coir_counter receiver;
    int64_t reply;
};

static void send_and_receive(void *arg)
{
    struct sender *s = (struct sender *)arg;
    struct pair p = pair_open();
    coir_counter *c = &s->receiver;
    char byte = 0;

    CHECK_EQ(coir_spawn(c, receive_and_panic, &p.a), COIR_OK);
    until_parked(coir_current(), 1);
    CHECK_EQ(coir_socket_send(p.b, &byte, 1), 1);
    s->reply = coir_socket_recv(p.b, &byte, 1);
    CHECK_EQ(coir_wait(c), COIR_PANICKED); /* p is its own */
    CHECK_EQ(coir_socket_close(p.b), COIR_OK);
}

void io_waiter(struct scene *s)
{
    struct sender sender = {COIR_COUNTER_INIT, -1};
    coir_counter c = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &c, send_and_receive, &sender), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    waiter_waits(s, &sender.receiver);
    peer_saw(s, "peer reads %s", sender.reply == 0 ? "the end" : short_name((int)sender.reply));
}

static void offload_panic(void *outcome)
{
    *(int *)outcome = coir_offload(job_panic, NULL);
}

void offloaded_call(struct scene *s)
{
    int outcome = -1;

    waiter_runs(s, offload_panic, &outcome);
    peer_saw(s, "offload %s", outcome_name(outcome));
    if (scene_kept(s).location == COIR_AT_OFFLOAD)
        peer_saw(s, "kept at offload");
}

static void take_signal(void *unused)
{
    (void)unused;
    CHECK_EQ(coir_signal_wait(COIR_SIGNAL(SIGUSR2)), SIGUSR2);
}

static void take_signal_and_panic(void *unused)
{
    take_signal(unused);
    coir_panic("planned");
}

/* Sends the signal that fn waits for. */
static void signal_to(struct scene *s, coir_counter *c, coir_fn *fn)
{
    CHECK_EQ(coir_submit(s->rt, c, fn, NULL), COIR_OK);
    scene_until_parked(s->rt, 1);
    CHECK_EQ(kill(getpid(), SIGUSR2), 0);
}

void signal_waiter(struct scene *s)
{
    coir_counter first = COIR_COUNTER_INIT, next = COIR_COUNTER_INIT;

    signal_to(s, &first, take_signal_and_panic);
    waiter_waits(s, &first);
    signal_to(s, &next, take_signal);
    CHECK_EQ(coir_wait(&next), COIR_DONE);
    peer_saw(s, "next signal arrives");
}

/* ---------------------------------------------------------------------------------------- closing */

static void hold_and_panic(void *hold)
{
    job_hold(hold);
    coir_panic("planned");
}

/* The drain begins at some point while the job goes on; it can only end after it. */
static void *let_go(void *hold)
{
    run_set(&((struct hold *)hold)->go);
    return NULL;
}

static pthread_t let_go_meanwhile(struct hold *h)
{
    pthread_t t;

    run_until(&h->started);
    if (pthread_create(&t, NULL, let_go, h) != 0)
        abort();
    return t;
}

void panic_during_drain(struct scene *s)
{
    coir_options o = run_options(s->workers);
    coir_runtime *rt = scene_open(&o);
    coir_counter c = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_receipt r;
    pthread_t t;

    CHECK_EQ(coir_submit(rt, &c, hold_and_panic, &h), COIR_OK);
    t = let_go_meanwhile(&h);
    peer_saw(s, "close %s", short_name(coir_close(rt, -1, &r)));
    pthread_join(t, NULL);
    peer_saw(s, "receipt: %d panicked", (int)r.ended[COIR_PANICKED]);
    waiter_waits(s, &c);
    scene_closed(rt, &r);
}

void panic_in_closing_domain(struct scene *s)
{
    coir_domain *d = domain_open(s->rt, NULL, NULL);
    coir_counter c = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_domain_receipt r;
    pthread_t t;

    CHECK_EQ(coir_domain_submit(d, &c, hold_and_panic, &h), COIR_OK);
    t = let_go_meanwhile(&h);
    peer_saw(s, "close %s", short_name(coir_domain_close(d, -1, &r)));
    pthread_join(t, NULL);
    peer_saw(s, "receipt: %d panicked", (int)r.ended[COIR_PANICKED]);
    waiter_waits(s, &c);
}

static void block_and_panic(void *blocked)
{
    job_block(blocked);
    coir_panic("planned");
}

/* Closes past its budget until all has ended: a busy machine may need more than the second budget. */
static int close_now(coir_runtime *rt, coir_receipt *r)
{
    int status;

    do
        status = coir_close(rt, 0, r);
    while (status == COIR_ETIMEDOUT);
    return status;
}

void panic_when_canceled(struct scene *s)
{
    coir_options o = run_options(s->workers);
    coir_runtime *rt = scene_open(&o);
    coir_counter c = COIR_COUNTER_INIT;
    struct blocked b = {0, 0};
    coir_receipt r;
    int status;

    CHECK_EQ(coir_submit(rt, &c, block_and_panic, &b), COIR_OK);
    scene_until_parked(rt, 1);
    status = close_now(rt, &r);
    peer_saw(s, "its sleep %s", short_name(b.status));
    peer_saw(s, "close %s", short_name(status));
    waiter_waits(s, &c);
    scene_closed(rt, &r);
}

/* Holds its worker, too. */
static void hold_worker(void *arg)
{
    struct hold *h = (struct hold *)arg;

    run_set(&h->started);
    while (!__atomic_load_n(&h->go, __ATOMIC_ACQUIRE))
        sched_yield();
}

/* A job on every worker that does not end by itself. */
static void hold_workers(coir_runtime *rt, coir_counter *c, struct hold *h)
{
    CHECK_EQ(coir_submit(rt, c, hold_worker, h), COIR_OK);
    run_until(&h->started);
}

void job_dropped_at_close(struct scene *s)
{
    coir_options o = run_options(1);
    coir_runtime *rt = scene_open(&o);
    coir_counter holder = COIR_COUNTER_INIT, queued = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_receipt r;

    hold_workers(rt, &holder, &h);
    CHECK_EQ(coir_submit(rt, &queued, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_close(rt, 0, &r), COIR_ETIMEDOUT);
    waiter_waits(s, &queued); /* while the other still runs */
    run_set(&h.go);
    CHECK_EQ(close_now(rt, &r), COIR_OK);
    CHECK_EQ(coir_wait(&holder), COIR_DONE);
    scene_closed(rt, &r);
}

struct patient {
    coir_counter c;
    int first, second; /* what its waits returned */
    int told;          /* the first has returned */
};

static void wait_twice(void *arg)
{
    struct patient *p = (struct patient *)arg;

    p->first = coir_wait(&p->c);
    run_set(&p->told);
    p->second = coir_wait(&p->c);
}

/* A close that comes while the waiter is about to park may miss it. */
static int close_until_told(coir_runtime *rt, coir_receipt *r)
{
    int status;

    do {
        status = coir_close(rt, 0, r);
        CHECK_EQ(r->left_count, 1);
        CHECK_EQ(r->owed, 1);
    } while (status == COIR_ETIMEDOUT && r->told == 0);
    return status;
}

void job_that_does_not_end(struct scene *s)
{
    coir_options o = run_options(1);
    coir_runtime *rt = scene_open(&o);
    struct patient p = {COIR_COUNTER_INIT, -1, -1, 0};
    coir_counter waiter = COIR_COUNTER_INIT;
    struct hold h = {0, 0};
    coir_receipt r;

    hold_workers(rt, &p.c, &h);
    CHECK_EQ(coir_submit(s->rt, &waiter, wait_twice, &p), COIR_OK);
    scene_until_parked(s->rt, 1);
    peer_saw(s, "close %s", short_name(close_until_told(rt, &r)));
    run_until(&p.told); /* before the real end */
    run_set(&h.go);
    CHECK_EQ(coir_wait(&waiter), COIR_DONE); /* before another close might tell it again */
    CHECK_EQ(close_now(rt, &r), COIR_OK);
    waiter_waits(s, &p.c);
    peer_saw(s, "waiter %s, again %s", outcome_name(p.first), outcome_name(p.second));
    scene_closed(rt, &r);
}
