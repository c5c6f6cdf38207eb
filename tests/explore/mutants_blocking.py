# SPDX-License-Identifier: MIT
"""mutants_blocking.py - the tables of mutants.py for what blocks: the scheduler, waits, primitives."""

PLANTED = [
    # --------------------------------------------------------------------------------- worker
    ("core/worker.c", "a fiber that was told in time is forgotten",
     "    else if (w->left == LEFT_PARKING && !fiber_publish(left))\n        worker_ready(left);\n",
     "    else if (w->left == LEFT_PARKING)\n        fiber_publish(left);\n"),
    ("core/worker.c", "published before its stack is left",
     "        w = switch_to(w, self, to, LEFT_PARKING, by);\n",
     "        if (!fiber_publish(self))\n            worker_ready(self);\n"
     "        w = switch_to(w, self, to, LEFT_NOTHING, by);\n"),
    ("core/worker.c", "queued before its stack is left",
     "        fiber_set(left, FIBER_RUNNING, FIBER_READY);\n        ring_push(&w->ring, &left->stack.link);\n",
     "        ring_push(&w->ring, &left->stack.link);\n        fiber_set(left, FIBER_RUNNING, FIBER_READY);\n"),
    ("core/worker.c", "queued as it yields before it is ready",
     "    fiber_set(left, FIBER_RUNNING, FIBER_READY);\n    ring_fill(&w->ring, t, &left->stack.link);\n",
     "    ring_fill(&w->ring, t, &left->stack.link);\n    fiber_set(left, FIBER_RUNNING, FIBER_READY);\n"),
    ("core/worker.c", "queued as it yields before its stack is left",
     "    w = leave(way.from, way.from->current, way.to, LEFT_READY, way.from->carrier.change);\n",
     "    fiber_set(w->current, FIBER_RUNNING, FIBER_READY);\n    ring_push(&w->ring, &w->current->stack.link);\n"
     "    w = leave(way.from, way.from->current, way.to, LEFT_NOTHING, way.from->carrier.change);\n"),
    ("core/idle.c", "no last look before the sleep",
     "    if (!(alone && !inject_empty_surely(&rt->inject)) && !find_quietly(rt))\n", "    if (alone * 0 || true)\n"),
    ("core/idle.c", "who sleeps alone looks at the injector without its lock",
     "    if (!(alone && !inject_empty_surely(&rt->inject)) && !find_quietly(rt))\n",
     "    if (alone * 0 == 0 && !find_quietly(rt))\n"),
    ("core/idle.c", "stopping is not looked at before the sleep",
     "    if (runtime_flag(&rt->stopping))\n        return true;\n    if (!(alone", "    if (!(alone"),
    ("core/idle.c", "who watches sleeps soundly",
     "    if (w->watching && watched_until(rt) < deadline)\n        deadline = watched_until(rt);\n", ""),
    ("core/idle.c", "a watch does not end",
     "    if (!w->searching)\n        look_at_workers(w->runtime);\n    park_watch_end(&w->runtime->park);\n",
     "    if (!w->searching)\n        look_at_workers(w->runtime);\n"),
    ("core/idle.c", "a watch ends after the look before a sound sleep",
     "    if (watched)\n        end_watch(w);\n",
     "    if (watched && !in_vain && !w->searching) {\n        w->watching = false;\n"
     "        in_vain = announced_in_vain(w);\n        end_watch(w);\n        if (!in_vain)\n            sleep_announced(w);\n"
     "        else\n            w->searching = park_retract(&w->runtime->park, &w->parker);\n"
     "    } else if (watched) {\n        end_watch(w);\n    }\n"),
    ("core/idle.c", "whose jobs are stuck are not told from those that run",
     "    s->ran += turns != w->seen.turns && ran > w->seen.ran ? ran - w->seen.ran : 0;\n    s->workers++;\n"
     "    s->behind |= turns == w->seen.turns && !(ring_empty(&w->ring) && deque_empty(&w->deque));\n",
     "    s->ran += ran > w->seen.ran ? ran - w->seen.ran : 0;\n    s->workers++;\n"),
    ("core/worker.c", "nobody is woken for a ready fiber",
     "            return;\n    } else {\n        inject_push_fiber(&rt->inject, &f->stack.link);\n    }\n"
     "    park_notify(&rt->park);\n",
     "            return;\n    } else {\n        inject_push_fiber(&rt->inject, &f->stack.link);\n    }\n"),
    ("core/worker.c", "a fiber held as a spare is forgotten",
     "    w->spare = NULL;\n    worker_ready(spare);\n", "    w->spare = NULL;\n"),
    ("core/worker.c", "a loop is a spare and in use",
     "    struct fiber *f = w->spare;\n\n    w->spare = NULL;\n    return f;\n",
     "    struct fiber *f = w->spare;\n\n    return f;\n"),
    # ---------------------------------------------------------------------------------- close
    ("core/books.c", "accepted is read before ended",
     "    uint64_t ended = books_ended(rt, by_outcome);\n\n"
     "    atomic_thread_fence(memory_order_acquire); /* BOOKS: ended is read before accepted */\n"
     "    return books_accepted(rt) - ended;\n",
     "    uint64_t accepted = books_accepted(rt);\n\n    return accepted - books_ended(rt, by_outcome);\n"),
    ("core/runtime.c", "visitors are not waited for", "    await_visitors(rt);\n", "    (void)await_visitors;\n"),
    ("core/inject.c", "the sleeper is chosen after the lock",
     "        if (UNLIKELY(park_is_due(park)))\n            *sleeper = park_pick(park);\n    }\n    lock_drop(&q->lock); /* VISIT: the last access */\n",
     "    }\n    lock_drop(&q->lock);\n    if (status == COIR_OK && park_is_due(park))\n        *sleeper = park_pick(park);\n"),
    ("core/runtime.c", "the books are read before draining is set",
     "        uint32_t seen = atomic_load_explicit(&rt->books, memory_order_acquire); /* BOOKS */\n\n"
     "        fence_full(); /* BOOKS */\n",
     "        uint32_t seen = atomic_load_explicit(&rt->books, memory_order_acquire);\n"),
    ("core/idle.c", "draining looked at without a fence",
     "    fence_full(); /* BOOKS: what this worker ended comes before the look at draining */\n", ""),
    ("core/idle.c", "a closer is not told", "        rt->idle(rt);\n", "        ;\n"),
    # ----------------------------------------------------------------------------------- wait
    ("core/wait.c", "parked on a counter that has settled",
     "            fiber_wake(self, generation, WAKE_EVENT);\n            break;\n        }\n    }\n    alarm_arm(",
     "            break;\n        }\n    }\n    alarm_arm("),
    ("core/stay.c", "who stays takes a counter without units for settled",
     "(outcome = counter_look(c)) < 0;",
     "(outcome = counter_is_owed(atomic_load_explicit(&c->state, memory_order_acquire)) ? -1 : 0) < 0;"),
    ("core/stay.c", "who stays does not see what its waker wrote",
     "(outcome = counter_look(c)) < 0;",
     "(outcome = atomic_load_explicit(&c->state, memory_order_relaxed) == 0 ? 0 : -1) < 0;"),
    ("core/wait.c", "a watch is read after its release",
     "    worker_wake(f, generation, WAKE_EVENT);\n    runtime_leave(rt, visiting);\n",
     "    worker_wake(n->fiber, n->generation, WAKE_EVENT);\n    runtime_leave(rt, visiting);\n"),
    ("core/wait.c", "a cancel before the park is not heeded",
     "    if (heed)\n        notice_cancel(self, generation);\n", ""),
    ("core/wait.c", "an alarm outlives its frame",
     "    *reason = job_park(self);\n    alarm_cancel(&alarm);\n", "    *reason = job_park(self);\n"),
    ("core/wait.c", "a watch outlives its frame",
     "        counter_delist(wait->counter[i], &wait->watch[i].node);\n", "        ;\n"),
    ("core/wait.c", "a canceled fiber is claimed and not given back to a queue",
     "    if (is_meant(v, f)) {\n        fiber_wake(f, generation, v->reason);\n        v->woken++;\n    }\n"
     "    if (!fiber_publish(f))\n        worker_ready(f);\n",
     "    if (is_meant(v, f)) {\n        fiber_wake(f, generation, v->reason);\n        v->woken++;\n    }\n"
     "    fiber_publish(f);\n"),
    ("core/stall.c", "an ask is put down after the look",
     "    canceled = self->job && job_canceled(w->runtime, self->job);\n    if (UNLIKELY(",
     "    canceled = self->job && job_canceled(w->runtime, self->job);\n"
     "    asked |= atomic_exchange_explicit(&w->asked, 0, memory_order_seq_cst);\n    if (UNLIKELY("),
    ("core/stall.c", "an ask is put down without a fence",
     "    fence_full(); /* ASKED: what arrive wrote over asks no more, but its flag is seen by jobs that start later */\n",
     ""),
    ("core/wait.c", "jobs that run are not asked",
     "        worker_ask(rt->worker[i], ASK_LOOK);\n", "        ;\n"),
    # --------------------------------------------------------------------------------- thread
    ("core/thread.c", "a seat is let go before its thread",
     "    let_go(s->thread);\n    wait_node_release(node);", "    wait_node_release(node);\n    let_go(s->thread);"),
    ("core/thread.c", "slept though a counter had settled",
     "            atomic_fetch_add_explicit(&t->word, 1, memory_order_relaxed); /* own: do not sleep */\n", ""),
    ("core/thread.c", "a seat outlives its frame",
     "        counter_delist(t->counter[i], &seat[i].node);\n", "        ;\n"),
    # --------------------------------------------------------------------------------- errand
    ("core/errand.c", "parks for an end that has come",
     "                                                     memory_order_relaxed)) /* OVER: looked at again */\n"
     "            fiber_wake(self, generation, WAKE_EVENT);\n",
     "                                                     memory_order_relaxed))\n            ;\n"),
    ("core/errand.c", "does not wait for the doer",
     "    e->revoke(e);\n    wait_out(self, e, generation, what);\n", "    e->revoke(e);\n"),
    ("core/errand.c", "the doer reads the record after its end",
     "    worker_wake(f, generation, WAKE_EVENT);\n", "    worker_wake(e->fiber, generation, WAKE_EVENT);\n"),
    ("core/errand.c", "the end is told by a store",
     "    uint64_t generation = atomic_exchange_explicit(&e->waiter, ERRAND_OVER,\n"
     "                                                   memory_order_acq_rel); /* OVER */\n",
     "    uint64_t generation = atomic_load_explicit(&e->waiter, memory_order_acquire);\n\n"
     "    atomic_store_explicit(&e->waiter, ERRAND_OVER, memory_order_release);\n"),
    # ---------------------------------------------------------------------------------- waitq
    ("core/waitq.h", "lock by load and store",
     "        } else if (atomic_compare_exchange_weak_explicit(word, &s, s | WORD_LOCK,\n"
     "                                                         memory_order_acquire,\n"
     "                                                         memory_order_relaxed)) { /* WORD */\n",
     "        } else if ((atomic_store_explicit(word, s | WORD_LOCK, memory_order_relaxed), true)) {\n"),
    ("core/waitq.c", "taken though its call had ended",
     "    if (!claim(w->sleeper, SLEEPER_TAKEN))\n        return NULL;\n", "    claim(w->sleeper, SLEEPER_TAKEN);\n"),
    ("core/waitq.c", "who gave up is served in another's place",
     "    while (!w && q->first)\n        w = take_first(q);\n    return w;\n}\n\nstruct waiter *waitq_take_item",
     "    if (q->first)\n        w = take_first(q);\n    return w;\n}\n\nstruct waiter *waitq_take_item"),
    ("core/waitq.c", "a sleeper is read after its release",
     "    worker_wake(f, generation, WAKE_EVENT);\n", "    worker_wake(s->fiber, generation, WAKE_EVENT);\n"),
    ("core/waitq.c", "a thread is woken before it is released",
     "        release(s); /* the last use; the kernel looks at the address only */\n"
     "        futex_wake(&s->state, 1);\n", "        futex_wake(&s->state, 1);\n        release(s);\n"),
    ("core/waitq.c", "next read after the wake-up",
     "        struct waiter *next = list->next;\n\n        waiter_wake(list);\n        list = next;\n",
     "        waiter_wake(list);\n        list = list->next;\n"),
    ("core/waitq.c", "gives up though it was taken",
     "    if (status != COIR_OK && claim(s, SLEEPER_GONE))\n", "    if (status != COIR_OK)\n"),
    ("core/waitq.c", "does not wait for its waker",
     "    while (atomic_load_explicit(&s->state, memory_order_acquire) != SLEEPER_RELEASED) /* TAKEN */\n"
     "        spin_pause(&turns);\n", "    (void)turns;\n"),
    ("core/waitq.c", "a cancel before the sleep is not heeded",
     "    notice_cancel(s->fiber, s->generation);\n", ""),
    ("core/waitq.c", "an alarm outlives its frame",
     "    s->fiber->sleeper = NULL;\n    alarm_cancel(&alarm);\n", "    s->fiber->sleeper = NULL;\n"),
    # ---------------------------------------------------------------------------------- mutex
    ("core/mutex.c", "unlocked by a store",
     "    if (UNLIKELY(!atomic_compare_exchange_strong_explicit(&m->state, &bare, 0, memory_order_release,\n"
     "                                                          memory_order_relaxed))) /* WORD */\n"
     "        unlock_slowly(m);\n",
     "    atomic_store_explicit(&m->state, 0, memory_order_release);\n    (void)unlock_slowly;\n"),
    ("core/mutex.c", "WAITERS not set by who queues",
     "        waitq_append(&m->queue, w);\n    word_unlock(&m->state, with_waiters(m, s));\n",
     "        waitq_append(&m->queue, w);\n    word_unlock(&m->state, s);\n"),
    ("core/mutex.c", "WOKEN stays when the woken takes it",
     "        s = (s & ~WOKEN) | identity(h->who);\n", "        s = s | identity(h->who);\n"),
    ("core/mutex.c", "WOKEN stays when the woken loses",
     "    if (loser)\n        s &= ~WOKEN;\n", ""),
    ("core/mutex.c", "who gave up stays in the queue",
     "    waitq_remove(&m->queue, w);\n", ""),
    ("core/mutex.c", "nobody is woken",
     "    word_unlock(&m->state, with_waiters(m, s));\n    if (w)\n        waiter_wake(w);\n",
     "    word_unlock(&m->state, with_waiters(m, s));\n"),
    ("core/mutex.c", "queued without a last look",
     "    if (is_free)\n        s |= identity(w->who);\n    else if (loser)\n",
     "    is_free = false;\n    if (loser)\n"),
    # --------------------------------------------------------------------------------- rwlock
    ("core/rwlock.c", "a reader's way out passes writers by",
     "                                                  memory_order_relaxed)) /* WORD */\n            return;\n"
     "    settle(l, without_reader(word_lock(&l->state)));\n",
     "                                                  memory_order_relaxed)) /* WORD */\n            return;\n"
     "    word_unlock(&l->state, without_reader(word_lock(&l->state)));\n"),
    ("core/rwlock.c", "who gives up lets nobody in", "        settle(l, word); /* R2 */\n",
     "        word_unlock(&l->state, word);\n"),
    ("core/rwlock.c", "a writer is let in among readers",
     "        if (!reads && !is_free(s))\n            break;\n", ""),
    ("core/rwlock.c", "a reader is let in beside a writer",
     "    while (!writer_of(s) && !waitq_empty(&l->queue)) {\n", "    while (!waitq_empty(&l->queue)) {\n"),
    ("core/rwlock.c", "the last reader leaves READERS", "    return s < ONE_READER ? s & ~READERS : s;\n",
     "    return s;\n"),
    ("core/rwlock.c", "queued without WAITERS", "        s |= WAITERS;\n", ""),
    # ------------------------------------------------------------- semaphore, event, once, cond
    ("core/semaphore.c", "a permit is freed though somebody waits",
     "    while (!(w & (WAITERS | WORD_LOCK)) && w / ONE", "    while (!(w & WORD_LOCK) && w / ONE"),
    ("core/semaphore.c", "queued without a last look",
     "    bool is_free = word >= ONE;\n", "    bool is_free = false;\n"),
    ("core/semaphore.c", "who gave up stays in the queue", "        waitq_remove(&s->queue, &w);\n", ""),
    ("core/event.c", "queued though it is set", "    if (!(word & SET))\n        waitq_append",
     "    if (!(word & SET) || true)\n        waitq_append"),
    ("core/event.c", "set before those who wait are taken",
     "    all = waitq_take_all(&e->queue, COIR_OK);\n    word_unlock(&e->state, SET);\n",
     "    word_unlock(&e->state, SET);\n    all = waitq_take_all(&e->queue, COIR_OK);\n"),
    ("core/event.c", "set again it seems not to be set",
     "(SET | WORD_LOCK)) /* WORD */\n", "UINT64_MAX) /* WORD */\n"),
    ("core/once.c", "queued though it has ended", "    if (ended(word) == 1)\n        waitq_append",
     "    if (ended(word) != 2)\n        waitq_append"),
    ("core/once.c", "two call",
     "    if (word == 0 && atomic_compare_exchange_strong_explicit(&o->state, &word,\n"
     "                                                             (uint64_t)(uintptr_t)who,\n"
     "                                                             memory_order_relaxed,\n"
     "                                                             memory_order_relaxed)) /* nothing came before; LOCK */\n",
     "    if (word == 0 && (atomic_store_explicit(&o->state, (uint64_t)(uintptr_t)who, memory_order_relaxed), 1))\n"),
    ("core/cond.c", "unlocks before it queues",
     "    enter(c, &w); /* N1 */\n    (void)coir_mutex_unlock(mutex); /* it is held: checked */\n",
     "    (void)coir_mutex_unlock(mutex);\n    enter(c, &w);\n"),
    ("core/cond.c", "who gave up stays in the queue",
     "    if (status != COIR_OK)\n        leave(c, &w);\n", "    (void)leave;\n"),
    # ------------------------------------------------------------------- channel, select, mailbox
    ("core/channel.c", "a waiting sender's element is dropped",
     "        push(c, w->item); /* H2 */\n", "        ;\n"),
    ("core/channel.c", "an element goes to a receiver after the lock",
     "    word_unlock(&c->state, word + MOVED);\n    if (wake)\n        waiter_wake(wake);\n",
     "    word_unlock(&c->state, word + MOVED);\n    if (wake)\n        waiter_wake(wake);\n"
     "    if (wake && op == COIR_SEND)\n        memcpy(wake->item, item, c->element_bytes);\n"),
    ("core/channel.c", "a send passes by who waits to receive", " || c->receivers.first))", "))"),
    ("core/channel.c", "a receive passes by who waits to send", " || c->senders.first))", "))"),
    ("core/channel.c", "done though the sleeper was taken elsewhere",
     "    else if (!sleeper_retract(w->sleeper))\n        status = COIR_EBUSY;\n",
     "    else if (!sleeper_retract(w->sleeper) && !w)\n        status = COIR_EBUSY;\n"),
    ("core/channel.c", "a close tells no receivers",
     "    receivers = waitq_take_all(&c->receivers, COIR_ECLOSED); /* then the ring is empty: H1 */\n",
     "    receivers = NULL;\n"),
    ("core/channel.c", "who gave up stays in the queue", "    channel_leave(c, op, &w);\n", ""),
    ("core/select.c", "nodes stay in the other queues",
     "            channel_leave(channel_of(s->cases[i].channel), s->cases[i].op, w);\n", "            ;\n"),
    ("core/mailbox.c", "falls asleep without a look", "    asleep = !b->bell && !(mail && b->first);\n",
     "    asleep = true;\n"),
    ("core/mailbox.c", "a message wakes nobody",
     "    b->bell = true; /* also for a receiver that is about to sleep and cares for this one alone */\n"
     "    wake(b);\n", "    b->bell = true;\n"),
    ("core/mailbox.c", "gone while a sender lets go",
     "{\n    lock_take(&b->lock);\n    lock_drop(&b->lock);\n}\n", "{\n    (void)b;\n}\n"),
    ("core/mailbox.c", "withdrawn though it was taken",
     "    listed = m->state == MAIL_LISTED;\n    if (listed) {\n        take_out(b, m);\n        m->state = MAIL_UNSENT;\n",
     "    listed = m->state != MAIL_UNSENT;\n    if (listed) {\n        take_out(b, m);\n        m->state = MAIL_UNSENT;\n"),
    # ---------------------------------------------------------------------------- cell, quarantine
    ("core/cell.c", "the reference is to what the word held before",
     "    word = atomic_fetch_add_explicit(&c->word, 1, memory_order_acquire); /* VERSION */\n",
     "    atomic_fetch_add_explicit(&c->word, 1, memory_order_acquire);\n"),
    ("core/cell.c", "the count is moved before the version has it",
     "        count(v, n);\n        if (atomic_compare_exchange_strong_explicit(&c->word, &word, word_of(v), memory_order_relaxed,\n"
     "                                                    memory_order_relaxed)) /* a count */\n"
     "            return;\n        count(v, -n);\n",
     "        if (atomic_compare_exchange_strong_explicit(&c->word, &word, word_of(v), memory_order_relaxed,\n"
     "                                                    memory_order_relaxed)) {\n"
     "            count(v, n);\n            return;\n        }\n"),
    ("core/cell.c", "a version that is replaced keeps no count",
     "        count(version_in(word), (int64_t)(word & COUNT_MASK) - BIAS);\n",
     "        count(version_in(word), -BIAS);\n"),
    ("core/quarantine_file.c", "the even generation comes first",
     "    for (int w = 1; w < 8; w++)\n        atomic_store_explicit(&s->word[w], word[w], memory_order_relaxed); /* SLOT */\n"
     "    atomic_store_explicit(&s->word[0], word[0], memory_order_release);     /* SLOT */\n",
     "    atomic_store_explicit(&s->word[0], word[0], memory_order_release);\n"
     "    for (int w = 1; w < 8; w++)\n        atomic_store_explicit(&s->word[w], word[w], memory_order_relaxed);\n"),
    ("core/quarantine_file.c", "no odd generation",
     "    atomic_store_explicit(&s->word[0], word[0] - 1, memory_order_relaxed); /* SLOT */\n", ""),
    ("core/quarantine.c", "an attempt is noted after the lock",
     "    lock_take(&q->lock);\n    i = find(q, type, key, true, now, &e);\n",
     "    i = find(q, type, key, true, now, &e);\n    lock_take(&q->lock);\n"),
]

BY_KERNEL = "the kernel that hands a record over orders as much; it is for checkers, which do not know that"

STAYS = {
    "errand.c: errand_run: store &e->waiter: release -> relaxed": BY_KERNEL,
    "worker.c: worker_each_fiber: load &rt->stacks.created: acquire -> relaxed":
        "stack.c, which makes stacks while others look at all, is not simulated",
    "errand.h: errand_receive: load &e->waiter: acquire -> relaxed": BY_KERNEL,
    "quarantine_file.c: begin: store &to->magic: release -> relaxed":
        "against the compiler only: who reads it later is not a thread, but a process that opens the file of one that was killed",
}
