/* SPDX-License-Identifier: MIT */
/*
 * matrix_held.c - rows of the propagation matrix: what a job that breaks held, and who wants it next.
 */
#include "domains.h"
#include "matrix.h"

/* A holder that panics, and a peer that waits for what it holds. */
struct meeting {
    int held, go;
    coir_mutex mutex;
    coir_cond cond;
    coir_rwlock rwlock;
    coir_semaphore semaphore;
    coir_event event;
    coir_once once;
    coir_channel channel;
    int own;     /* what the holder's own call returned */
    int peer[2]; /* what the peer's calls returned */
};

static struct meeting meeting(void)
{
    struct meeting m = {};

    CHECK_EQ(coir_semaphore_init(&m.semaphore, 1), COIR_OK);
    CHECK_EQ(coir_channel_init(&m.channel, sizeof(int), 1, NULL), COIR_OK);
    return m;
}

static void stay(struct meeting *m)
{
    run_set(&m->held);
    run_until(&m->go);
}

/* The holder goes on when the peer has parked. */
static void meet(struct scene *s, struct meeting *m, coir_fn *holder, coir_fn *peer)
{
    coir_counter h = COIR_COUNTER_INIT, p = COIR_COUNTER_INIT;

    CHECK_EQ(coir_submit(s->rt, &h, holder, m), COIR_OK);
    run_until(&m->held);
    CHECK_EQ(coir_submit(s->rt, &p, peer, m), COIR_OK);
    scene_until_parked(s->rt, 1);
    run_set(&m->go);
    waiter_waits(s, &h);
    CHECK_EQ(coir_wait(&p), COIR_DONE);
    CHECK_EQ(coir_channel_fini(&m->channel), COIR_OK);
}

/* ------------------------------------------------------------------------------------------ locks */

static void unlock_mutex(void *m)
{
    CHECK_EQ(coir_mutex_unlock(&((struct meeting *)m)->mutex), COIR_OK);
}

static void panic_with_mutex(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_mutex_lock(&m->mutex), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void panic_unlocking(void *m)
{
    CHECK_EQ(coir_defer(unlock_mutex, m), COIR_OK);
    panic_with_mutex(m);
}

static void want_mutex(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_mutex_lock(&m->mutex);
    unlock_mutex(m);
}

void mutex_holder(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_with_mutex, want_mutex);
    peer_saw(s, "lock %s", short_name(m.peer[0]));
}

void mutex_holder_with_defer(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_unlocking, want_mutex);
    peer_saw(s, "lock %s", short_name(m.peer[0]));
}

static void signal_and_panic(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    stay(m);
    CHECK_EQ(coir_mutex_lock(&m->mutex), COIR_OK);
    CHECK_EQ(coir_cond_signal(&m->cond), COIR_OK);
    coir_panic("planned");
}

static void want_signal(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_mutex_lock(&m->mutex), COIR_OK);
    m->peer[0] = coir_cond_wait(&m->cond, &m->mutex);
    unlock_mutex(m);
}

void cond_signaler(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, signal_and_panic, want_signal);
    peer_saw(s, "cond wait %s", short_name(m.peer[0]));
}

static void panic_writing(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_rwlock_write_lock(&m->rwlock), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void panic_reading(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    coir_read hold = COIR_READ_INIT;

    CHECK_EQ(coir_rwlock_read_lock(&m->rwlock, &hold), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void want_to_read(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    coir_read hold = COIR_READ_INIT;

    m->peer[0] = coir_rwlock_read_lock(&m->rwlock, &hold);
    CHECK_EQ(coir_rwlock_read_unlock(&m->rwlock, &hold), COIR_OK);
}

static void want_to_write(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_rwlock_write_lock(&m->rwlock);
    CHECK_EQ(coir_rwlock_write_unlock(&m->rwlock), COIR_OK);
}

void rwlock_writer(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_writing, want_to_read);
    peer_saw(s, "read %s", short_name(m.peer[0]));
    CHECK_EQ(coir_rwlock_write_try_lock(&m.rwlock), COIR_EPOISONED); /* nobody is in */
    CHECK_EQ(coir_rwlock_write_unlock(&m.rwlock), COIR_OK);
}

void rwlock_reader(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_reading, want_to_write);
    peer_saw(s, "write %s", short_name(m.peer[0]));
}

/* ---------------------------------------------------------------------------- permits, events, channels */

static void release_permit(void *m)
{
    CHECK_EQ(coir_semaphore_release(&((struct meeting *)m)->semaphore, 1), COIR_OK);
}

static void panic_with_permit(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_semaphore_acquire(&m->semaphore), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void panic_releasing(void *m)
{
    CHECK_EQ(coir_defer(release_permit, m), COIR_OK);
    panic_with_permit(m);
}

static void want_permit(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_semaphore_acquire(&m->semaphore);
}

/* The holder has panicked when it comes; without a deadline it would wait for ever. */
static void want_lost_permit(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_semaphore_acquire_until(&m->semaphore, coir_now() + COIR_MS / 10);
}

void semaphore_holder(struct scene *s)
{
    struct meeting m = meeting();
    coir_counter c = COIR_COUNTER_INIT;

    run_set(&m.go);
    waiter_runs(s, panic_with_permit, &m);
    CHECK_EQ(coir_submit(s->rt, &c, want_lost_permit, &m), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    peer_saw(s, "acquire %s", short_name(m.peer[0]));
    CHECK_EQ(coir_channel_fini(&m.channel), COIR_OK);
}

void semaphore_holder_with_defer(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_releasing, want_permit);
    peer_saw(s, "acquire %s", short_name(m.peer[0]));
}

static void set_event(void *m)
{
    CHECK_EQ(coir_event_set(&((struct meeting *)m)->event), COIR_OK);
}

static void panic_setting(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_defer(set_event, m), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void want_event(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_event_wait(&m->event);
}

void event_setter(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_setting, want_event);
    peer_saw(s, "wait %s", short_name(m.peer[0]));
}

static void close_channel(void *m)
{
    CHECK_EQ(coir_channel_close(&((struct meeting *)m)->channel), COIR_OK);
}

static void panic_sending(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    int element = 7;

    CHECK_EQ(coir_defer(close_channel, m), COIR_OK);
    stay(m);
    CHECK_EQ(coir_channel_send(&m->channel, &element), COIR_OK);
    coir_panic("planned");
}

static void want_elements(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    int element = 0;

    m->peer[0] = coir_channel_recv(&m->channel, &element);
    CHECK_EQ(element, 7);
    m->peer[1] = coir_channel_recv(&m->channel, &element);
}

void channel_sender(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_sending, want_elements);
    peer_saw(s, "recv %s", short_name(m.peer[0]));
    peer_saw(s, "recv %s", short_name(m.peer[1]));
}

static void panic_receiving(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    CHECK_EQ(coir_defer(close_channel, m), COIR_OK);
    stay(m);
    coir_panic("planned");
}

static void want_to_send(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    int element = 7;

    CHECK_EQ(coir_channel_send(&m->channel, &element), COIR_OK); /* there is room for one */
    m->peer[0] = coir_channel_send(&m->channel, &element);
}

void channel_receiver(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_receiving, want_to_send);
    peer_saw(s, "send %s", short_name(m.peer[0]));
}

static void want_in_select(void *arg)
{
    struct meeting *m = (struct meeting *)arg;
    int element = 0;
    coir_case c = {&m->channel, &element, COIR_RECV};

    m->peer[0] = coir_select(&c, 1, COIR_NEVER, NULL);
    CHECK_EQ(element, 7);
    m->peer[1] = coir_select(&c, 1, COIR_NEVER, NULL);
}

void channel_in_select(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, panic_sending, want_in_select);
    peer_saw(s, "select %s", short_name(m.peer[0]));
    peer_saw(s, "select %s", short_name(m.peer[1]));
}

/* -------------------------------------------------------------------------------- once, cell, promise */

static void stay_and_panic(void *m)
{
    stay((struct meeting *)m);
    coir_panic("planned");
}

static void initialise(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->own = coir_once_call(&m->once, stay_and_panic, m);
}

static void want_initialised(void *arg)
{
    struct meeting *m = (struct meeting *)arg;

    m->peer[0] = coir_once_call(&m->once, stay_and_panic, m);
}

void once_initialiser(struct scene *s)
{
    struct meeting m = meeting();

    meet(s, &m, initialise, want_initialised);
    CHECK_EQ(m.own, m.peer[0]);
    CHECK_EQ(m.own, coir_once_call(&m.once, job_panic, NULL));
    peer_saw(s, "call, waiting call and later call %s", short_name(m.own));
}

static void take_and_panic(void *obligation)
{
    CHECK_EQ(coir_obligation_take(NULL, "a reply", (coir_obligation *)obligation), COIR_OK);
    coir_panic("planned");
}

void obligation_holder(struct scene *s)
{
    coir_domain *d = domain_open(s->rt, NULL, NULL);
    coir_obligation o = {};
    coir_failure f;

    waiter_saw(s, domain_run(d, take_and_panic, &o, &f), &f);
    peer_saw(s, "leaked %d", (int)domain_stats(d).obligations_leaked);
    peer_saw(s, "discharge %s", short_name(coir_obligation_discharge(o)));
    CHECK_EQ(domain_stats(d).obligations_held, 0);
    domain_close(d);
}

struct version {
    coir_cell_version version;
    int half, other_half; /* equal in every whole version */
};

static int destroyed;

static void count_destroyed(coir_cell_version *unused)
{
    (void)unused;
    destroyed++;
}

static void panic_half_built(void *cell)
{
    struct version next = {.half = 2};

    coir_panic("before %d is published in %p", next.half, cell);
}

void cell_publisher(struct scene *s)
{
    struct version first = {.half = 1, .other_half = 1};
    coir_cell_version *seen;
    coir_cell cell;

    destroyed = 0;
    CHECK_EQ(coir_cell_init(&cell, &first.version, count_destroyed), COIR_OK);
    waiter_runs(s, panic_half_built, &cell);
    seen = coir_cell_read(&cell);
    if (seen == &first.version && first.half == first.other_half)
        peer_saw(s, "reader has the old version");
    coir_cell_release(seen);
    coir_cell_fini(&cell);
    CHECK_EQ(destroyed, 1);
}
