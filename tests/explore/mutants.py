# SPDX-License-Identifier: MIT
"""mutants.py - faults to plant in core/, and orders that may be weakened unnoticed: the tables.

PLANTED: (file, name, old text, new text), or tuples of texts. An old text occurs once in the file; a name
is what the fault is called. Files of tests/explore/ stand for rules that core/ keeps one row higher up.

STAYS: mutants of an order or a fence that no scenario kills, as mutate.py names them, and why the
source keeps the stronger one.
"""

PLANTED = [
    # ---------------------------------------------------------------------------------- deque
    ("core/deque.c", "items read after the CAS",
     """    for (uint32_t i = 0; i < half; i++)
        deque_get(deque_slot(d, t + i), &items[i]); /* before the CAS: after it the owner may reuse them */
    *n = half;
    return move_window(d, &window, raised(window, half, lent - half)) ? STEAL_OK : STEAL_LOST;
""",
     """    if (!move_window(d, &window, raised(window, half, lent - half)))
        return STEAL_LOST;
    for (uint32_t i = 0; i < half; i++)
        deque_get(deque_slot(d, t + i), &items[i]);
    *n = half;
    return STEAL_OK;
"""),
    ("tests/explore/deque.c", "opened without a fence",
     "        fence_all();\n        deque_open(&d, asked);\n", "        deque_open(&d, asked);\n"),
    ("tests/explore/deque.c", "opened in spite of an answer",
     "        fence_all();\n        deque_open(&d, asked);\n",
     "        fence_all();\n        deque_open(&d, atomic_load_explicit(&d.window, memory_order_relaxed));\n"),
    ("core/deque.c", "a thief takes one that is not lent",
     "(lent + 1) / 2 < max ? (lent + 1) / 2 :", "lent + 1 < max ? lent + 1 :"),
    ("core/deque.c", "opened beyond bottom", "((uint32_t)n + 1) / 2));", "(uint32_t)n + 1));"),
    ("core/deque.c", "taken back, and the window says what it said before",
     "    if (!move_window(d, window, raised(*window, DEQUE_LAP, lent)))\n        return false;\n"
     "    atomic_store_explicit(&d->bottom, b + DEQUE_LAP, memory_order_relaxed); /* PUB: the CAS carries it */\n"
     "    d->full = b + DEQUE_LAP;\n",
     "    if (!move_window(d, window, raised(*window, 0, lent)))\n        return false;\n"),
    ("core/deque.c", "the last item is popped over a question",
     "        if (before >= (int32_t)deque_lent_of(*window))\n",
     "        if (before >= (int32_t)deque_lent_of(*window) || *window & DEQUE_ASKED)\n"),
    ("core/deque.c", "taken back by a store",
     "    if (!move_window(d, window, raised(*window, DEQUE_LAP, lent)))\n        return false;\n",
     "    atomic_store_explicit(&d->window, raised(*window, DEQUE_LAP, lent), memory_order_release);\n"),
    ("core/deque.c", "more is lent than is left to lend",
     "((uint32_t)before + 1) / 2;\n", "(uint32_t)before + 1;\n"),
    ("core/deque.c", "all is lent, and what is popped",
     "            lent = (uint32_t)before;\n", "            lent = (uint32_t)before + 1;\n"),
    ("core/deque.c", "all is lent, and one more",
     "raised(window, 0, b - deque_top_of(window))", "raised(window, 0, b - deque_top_of(window) + 1)"),
    ("core/deque.c", "the oldest is popped without a CAS",
     "    } while (n && !move_window(d, &window, raised(window, n, lent > n ? lent - n : 0)));\n",
     "    } while (false);\n"
     "    atomic_store_explicit(&d->window, raised(window, n, lent > n ? lent - n : 0), memory_order_release);\n"),
    ("core/deque.c", "empty pop leaves bottom low",
     """            atomic_store_explicit(&d->bottom, b + 1, memory_order_relaxed); /* PUB: nothing is there to be seen */
            return false;
""", "            return false;\n"),
    ("core/deque.h", "index published before the item",
     """    deque_put(deque_slot(d, b), item);
    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB */
""",
     """    atomic_store_explicit(&d->bottom, b + 1, memory_order_release); /* PUB */
    deque_put(deque_slot(d, b), item);
"""),
    ("core/deque.h", "pop looks at the window before it lowers bottom",
     ("    atomic_store_explicit(&d->bottom, b - 1, memory_order_release); /* PUB: keeps its chain */\n",
      "    return LIKELY(atomic_load_explicit(&d->window, memory_order_relaxed) == d->seen) || /* FORCE: after the fence */\n"),
     ("    uint64_t window = atomic_load_explicit(&d->window, memory_order_relaxed);\n"
      "    atomic_store_explicit(&d->bottom, b - 1, memory_order_release);\n",
      "    return LIKELY(window == d->seen) ||\n")),
    ("core/deque.h", "a lent item is popped",
     "    if (UNLIKELY(b == d->floor))\n        return deque_pop_slowly(d);\n", ""),
    ("core/deque.c", "popped though somebody has asked",
     "d->asymmetric && !(window & DEQUE_ASKED) ? window : SEEN_NONE", "d->asymmetric ? window : SEEN_NONE"),
    ("core/deque.c", "what was lent when it last looked is forgotten",
     "    d->floor = deque_top_of(window) + deque_lent_of(window);\n", "    d->floor = deque_top_of(window);\n"),
    ("core/deque.c", "an owner that must passes no fence", "d->asymmetric && !(window", "!(window"),
    ("core/deque.c", "one more than there is room for",
     "room = DEQUE_CAP - n;\n", "room = DEQUE_CAP + 1 - n;\n"),
    ("core/deque.h", "a slot is written before the look at the window",
     "    if (!deque_has_room(d, &b) && !deque_look_for_room(d))\n",
     "    deque_put(deque_slot(d, atomic_load_explicit(&d->bottom, memory_order_relaxed)), item);\n"
     "    if (!deque_has_room(d, &b) && !deque_look_for_room(d))\n"),
    ("core/deque.h", "owed word is not looked at",
     "    if (UNLIKELY(atomic_load_explicit(&s->owed, memory_order_relaxed) != item->owed) ||   /* own write */\n        ",
     "    if ("),
    # ----------------------------------------------------------------------------------- ring
    ("core/ring.c", "two may take one element",
     """        if (atomic_compare_exchange_weak_explicit(&r->head, &h, h + 1, memory_order_release,
                                                  memory_order_relaxed)) /* FREE */
            return e;
""",
     """        atomic_store_explicit(&r->head, h + 1, memory_order_release);
        return e;
"""),
    ("core/ring.c", "slot read after the CAS",
     "            return e;\n    }\n",
     "            return atomic_load_explicit(ring_slot(r, h), memory_order_relaxed);\n        (void)e;\n    }\n"),
    ("core/ring.h", "one more than there is room for", "return LIKELY(*t < r->room); ",
     "return LIKELY(*t <= r->room); "),
    ("core/ring.c", "no room, and one more",
     "    return t - atomic_load_explicit(&r->next, memory_order_relaxed) < RING_CAP;",
     "    return t - atomic_load_explicit(&r->next, memory_order_relaxed) <= RING_CAP;"),
    ("core/ring.c", "room is made over claims", "    if (!has_claims(r))\n", ""),
    ("core/ring.h", "a push overtakes the list",
     "return LIKELY(*t < r->room); ",
     "return LIKELY(*t - atomic_load_explicit(&r->next, memory_order_relaxed) < RING_CAP); "),
    ("core/ring.c", "list taken from without the lock",
     "    lock_take(&r->lock);\n    e = list_take(&r->over);\n    publish_count(r);\n",
     "    e = list_take(&r->over);\n    lock_take(&r->lock);\n    publish_count(r);\n"),
    ("core/ring.c", "count of the list not published",
     "    lock_take(&r->lock);\n    list_push(&r->over, e);\n    publish_count(r);\n",
     "    lock_take(&r->lock);\n    list_push(&r->over, e);\n"),
    ("core/ring.c", "a claim that another may have",
     """    } while (!atomic_compare_exchange_weak_explicit(&r->head, &h, h + n, memory_order_acquire,
                                                    memory_order_relaxed)); /* FREE */
""",
     """    } while (0);
    atomic_store_explicit(&r->head, h + n, memory_order_release);
"""),
    ("core/ring.c", "a claim is told before next is",
     ("    atomic_store_explicit(&r->next, h + 1, memory_order_relaxed); /* FILL: before kept */\n    r->claimed",
      "    atomic_store_explicit(&r->kept, h + n, memory_order_release); /* FILL */\n"),
     ("    r->claimed",
      "    atomic_store_explicit(&r->kept, h + n, memory_order_release); /* FILL */\n"
      "    atomic_store_explicit(&r->next, h + 1, memory_order_relaxed);\n")),
    ("core/ring.c", "who wrests is not waited for",
     """        lock_take(&r->lock);
        r->claimed = atomic_load_explicit(&r->kept, memory_order_relaxed); /* under lock */
        lock_drop(&r->lock);
    }
""",
     """        r->claimed = atomic_load_explicit(&r->kept, memory_order_relaxed); /* under lock */
    }
"""),
    ("core/ring.h", "both want it, the owner takes it",
     "    if (LIKELY(*i < atomic_load_explicit(&r->kept, memory_order_relaxed))) /* FORCE: after the fence */\n", "    if (*i >= 0)\n"),
    ("core/ring.h", "next is not put back",
     "    atomic_store_explicit(&r->next, *i, memory_order_relaxed); /* FORCE: has_claims will ask whose it is */\n", ""),
    ("core/ring.c", "clear though what is being wrested may come back",
     "    if (atomic_load_explicit(&r->next, memory_order_relaxed) >= r->claimed) /* own write */\n", ""),
    ("core/ring.h", "clear though something was pushed",
     "memory_order_relaxed) == r->clear)", "memory_order_relaxed) - r->clear <= 1)"),
    ("core/ring.c", "wrested without a look at next",
     "    if (atomic_load_explicit(&r->next, memory_order_relaxed) <= i) /* FORCE: after the fence */\n",
     "    if (i >= 0)\n"),
    ("core/ring.c", "wrested by a store, not by a CAS",
     """    if (!atomic_compare_exchange_strong_explicit(&r->kept, &was, i, memory_order_relaxed,
                                                 memory_order_relaxed)) /* FORCE: before the fence */
        return false;
""",
     """    atomic_store_explicit(&r->kept, i, memory_order_relaxed);
    if (was < 0)
        return false;
"""),
    ("core/ring.c", "given back over a new claim",
     """    atomic_compare_exchange_strong_explicit(&r->kept, &lowered, i + 1, memory_order_relaxed,
                                            memory_order_relaxed); /* lost: it has claimed more (R4) */
""",
     """    atomic_store_explicit(&r->kept, i + 1, memory_order_relaxed);
    (void)lowered;
"""),
    ("core/ring.c", "more is claimed than one where nobody can have the owner pass a fence",
     "asymmetric ? CLAIM_MAX : 1;", "CLAIM_MAX;"),
    ("core/ring.c", "wrested without a fence",
     "    fence(arg);                                                         /* FORCE */\n",
     "    (void)fence;\n    (void)arg;\n"),
    # --------------------------------------------------------------------------------- inject
    ("core/inject.c", "limit checked before the lock",
     "    lock_take(&q->lock);\n    status = admit(q, n, true);\n",
     "    status = admit(q, n, true);\n    lock_take(&q->lock);\n"),
    ("core/inject.c", "close without the lock",
     "    lock_take(&q->lock);\n    q->closed = closed;\n    lock_drop(&q->lock);\n",
     "    q->closed = closed;\n"),
    ("core/inject.c", "one more than the limit", "n <= q->work_max - count", "n <= q->work_max + 1 - count"),
    ("core/inject.c", "taken after the lock",
     "    n = take(q, items, max);\n    lock_drop(&q->lock);\n",
     "    lock_drop(&q->lock);\n    n = take(q, items, max);\n"),
    ("core/inject.c", "whom to wake is asked before the work is there",
     "    if (status == COIR_OK)\n        status = append(q, first, stride, n);\n    if (status == COIR_OK) {\n        q->accepted += n;\n"
     "        if (UNLIKELY(park_is_due(park)))\n            *sleeper = park_pick(park);\n    }\n",
     "    if (park_is_due(park))\n        *sleeper = park_pick(park);\n    if (status == COIR_OK)\n        status = append(q, first, stride, n);\n"
     "    if (status == COIR_OK)\n        q->accepted += n;\n"),
    ("core/inject.c", "a relief counts before the lock",
     "    lock_take(&q->lock);\n    count = atomic_load_explicit(&q->work_count, memory_order_relaxed); /* under lock */\n    status = admit(q, 1, false);\n",
     "    count = atomic_load_explicit(&q->work_count, memory_order_relaxed);\n    lock_take(&q->lock);\n    status = admit(q, 1, false);\n"),
    ("core/inject.c", "a relief goes past the limit", "room < below_limit ? room : below_limit", "room + 0 * below_limit"),
    ("core/deque.c", "what was popped stays lent", "raised(window, n, lent > n ? lent - n : 0)", "raised(window, n, lent)"),
    ("core/inject.c", "fiber taken before the lock",
     "    lock_take(&q->lock);\n    e = list_take(&q->fibers);\n",
     "    e = list_take(&q->fibers);\n    lock_take(&q->lock);\n"),
    # ----------------------------------------------------------------------------------- park
    ("tests/explore/park.c", "no last look before the sleep",
     "    if ((alone && injector_in_sight_surely()) || in_sight() || stopped()) {\n", "    if (stopped()) {\n"),
    ("tests/explore/park.c", "last look before the announcement",
     "    alone = park_announce(&p, &self[thread], true);\n"
     "    if ((alone && injector_in_sight_surely()) || in_sight() || stopped()) {\n",
     "    alone = in_sight() || stopped();\n"
     "    park_announce(&p, &self[thread], true);\n    if (alone) {\n"),
    ("tests/explore/park.c", "last searcher passes nothing on",
     "    if (searching && park_search_end(&p) && in_sight())\n        park_notify(&p);\n",
     "    if (searching)\n        park_search_end(&p);\n"),
    ("tests/explore/park.c", "wakes before it publishes",
     "    atomic_store_explicit(&published, n + 1, memory_order_relaxed);\n    park_notify(&p);\n",
     "    park_notify(&p);\n    atomic_store_explicit(&published, n + 1, memory_order_relaxed);\n"),
    ("core/park.c", "as many are woken as were counted, the latest first",
     "    lock_take(&p->lock);\n    while ((s = pop_sleeper(p))) {",
     "    unsigned n = park_sleeping(atomic_load_explicit(&p->counts, memory_order_seq_cst));\n"
     "    lock_take(&p->lock);\n    while (n-- > 0 && (s = pop_sleeper(p))) {"),
    ("core/park.c", "membarrier left out",
     "    while (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {\n", "    while (false) {\n"),
    ("core/park.c", "alone although another worker is awake",
     "    if (park_sleeping(was) + 1 == p->workers)\n", "    if (p->workers)\n"),
    ("core/inject.c", "who sleeps alone looks without the lock",
     "    lock_take(&q->lock);\n    empty = inject_empty(q);\n    lock_drop(&q->lock);\n",
     "    empty = inject_empty(q);\n"),
    ("core/park.c", "leaves without its token",
     "    if (!listed)\n        take_token(self);\n", ""),
    ("core/park.c", "token given by a plain store",
     "    if (atomic_exchange_explicit(&s->word, PARKER_WOKEN, memory_order_release) == PARKER_AWAY) /* TOKEN */\n",
     "    bool away = atomic_load_explicit(&s->word, memory_order_relaxed) == PARKER_AWAY;\n\n"
     "    atomic_store_explicit(&s->word, PARKER_WOKEN, memory_order_release);\n    if (away)\n"),
    ("core/park.c", "sleeper touched after its token",
     "        futex_wake(&s->word, 1);\n",
     "    { futex_wake(&s->word, 1); s->listed = false; }\n"),
    ("core/park.c", "nobody woken in the kernel", "        futex_wake(&s->word, 1);\n", "        ;\n"),
    ("core/park.c", "woken is not counted as searching",
     "ONE_SLEEPING - ONE_SEARCHING,\n                                  memory_order_relaxed); /* counted",
     "ONE_SLEEPING,\n                                  memory_order_relaxed); /* counted"),
    ("core/park.c", "a search ends uncounted while others sleep",
     "    if (park_searching(was) != 1 || !park_sleeping(was) || park_may_wait(p, was))\n",
     "    if (park_searching(was) != 1 || park_sleeping(was))\n"),
    ("core/park.c", "a search ends in silence where nobody watches",
     "!park_sleeping(was) || park_may_wait(p, was))\n", "!park_sleeping(was) || park_fills(p, was, 0))\n"),
    ("core/park.c", "two watch at once",
     "    return !(atomic_fetch_or_explicit(&p->counts, PARK_WATCHED, memory_order_acquire) & PARK_WATCHED); /* WATCH */\n",
     "    atomic_fetch_or_explicit(&p->counts, PARK_WATCHED, memory_order_acquire);\n    return true;\n"),
    ("core/park.h", "what is published waits where nobody watches",
     "    return UNLIKELY(counts & PARK_WATCHED) && park_fills(p, counts, 0);\n",
     "    return park_fills(p, counts, 0);\n"),
    ("tests/explore/park.c", "who watches sleeps soundly",
     "watching ? coir_now() + 1 : COIR_NEVER);\n", "COIR_NEVER);\n"),
    ("tests/explore/park.c", "a watch ends after the look before a sound sleep",
     "    if (watching) {\n        seen++;\n        park_watch_end(&p);\n    }\n    if (!woken)\n        park_search_begin(&p);\n",
     "    if (!woken)\n        park_search_begin(&p);\n    if (watching) {\n        seen++;\n"
     "        if (!woken) {\n            park_announce(&p, &self[thread], true);\n            in_vain = in_sight();\n"
     "            park_watch_end(&p);\n"
     "            woken = in_vain ? park_retract(&p, &self[thread]) : park_sleep(&p, &self[thread], COIR_NEVER);\n"
     "            if (!woken)\n                park_search_begin(&p);\n"
     "        } else {\n            park_watch_end(&p);\n        }\n    }\n"),
    ("tests/explore/park.c", "who has watched passes nothing on",
     "    found(true);\n", "    park_search_end(&p);\n"),
    ("core/park.c", "retract without the lock",
     "    lock_take(&p->lock);\n    listed = self->listed;\n",
     "    listed = self->listed;\n    lock_take(&p->lock);\n"),
    ("core/park.h", "notifier reads counts before its fence",
     "    if (!p->asymmetric)\n        fence_full(); /* SLEEP */\n",
     "    counts = atomic_load_explicit(&p->counts, memory_order_relaxed);\n"
     "    if (!p->asymmetric)\n        fence_full(); /* SLEEP */\n    if (!park_sleeping(counts))\n"
     "        return;\n    if (p->asymmetric)\n        ;\n"),
    # -------------------------------------------------------------------------------- counter
    ("core/counter.c", "list looked at after the decrement",
     "    if (UNLIKELY(was & COUNTER_WAITERS) && was < (n + 1) * COUNTER_ONE && !(was & COUNTER_LOCAL)) /* C5 */\n",
     "    if (was < (n + 1) * COUNTER_ONE && c->waiters)\n"),
    ("core/counter.c", "a finisher though the owner has not said what it owes",
     "was < (n + 1) * COUNTER_ONE && !(was & COUNTER_LOCAL)) /* C5 */",
     "was < (n + 1) * COUNTER_ONE)"),
    ("core/counter.c", "shared, and nobody lets go who waits",
     "    if (UNLIKELY(to & COUNTER_WAITERS) && to < COUNTER_ONE)\n        finish(c);\n}\n\nvoid counter_note",
     "}\n\nvoid counter_note"),
    ("core/counter.c", "shared by a store",
     "    } while (!atomic_compare_exchange_weak_explicit(&c->state, &s, to, memory_order_release,\n"
     "                                                    memory_order_relaxed)); /* SETTLE: what it has run itself */\n",
     "    } while (false);\n    atomic_store_explicit(&c->state, to, memory_order_release);\n"),
    ("core/counter.c", "shared twice", "        if (!(s & COUNTER_LOCAL)) /*", "        if (false) /*"),
    ("core/counter.h", "a local one with nothing in its word is not owed",
     "    return state >= COUNTER_ONE || state & COUNTER_LOCAL;\n",
     "    return state >= COUNTER_ONE;\n"),
    ("core/counter.h", "settled though local",
     "return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_WAITERS | COUNTER_LOCK));",
     "return state < COUNTER_ONE && !(state & (COUNTER_WAITERS | COUNTER_LOCK));"),
    ("core/counter.c", "next read after the release",
     "        next = node->next;\n        node->outcome = outcome;\n        node->settled(node, outcome);\n",
     "        node->outcome = outcome;\n        node->settled(node, outcome);\n        next = node->next;\n"),
    ("core/counter.c", "waiters released before the settled word",
     "    unlock(c, COUNTER_WAITERS); /* C1: the last access */\n\n"
     "    for (; node; node = next) {\n        next = node->next;\n        node->outcome = outcome;\n"
     "        node->settled(node, outcome);\n    }\n",
     "    for (; node; node = next) {\n        next = node->next;\n        node->outcome = outcome;\n"
     "        node->settled(node, outcome);\n    }\n    unlock(c, COUNTER_WAITERS);\n"),
    ("core/counter.c", "settled before who is foretold has been",
     "        unlock(c, 0); /* C6 */\n", "        unlock(c, COUNTER_WAITERS);\n"),
    ("core/counter.c", "who comes while others are foretold is not",
     "    while (UNLIKELY(claim(node = c->waiters, seen))) {\n", "    if (claim(node = c->waiters, seen)) {\n"),
    ("core/counter.c", "foretold again", "        seen = node;\n", ""),
    ("core/counter.c", "a unit more though none is owed",
     "        if (!counter_is_owed(s))\n            return false;\n", "        ;\n"),
    ("core/counter.c", "a counter is looked at that a finisher had",
     "    if (!is_listed(node))\n        return false; /* a finisher has it, and the counter may be gone */\n", ""),
    ("core/counter.c", "a node leaves under the finisher",
     "    while (!wait_node_released(node)) /* C3: a finisher is on its way, or has the node */\n"
     "        spin_pause(&turns);\n", "    (void)turns;\n"),
    ("core/counter.c", "taken out though a finisher is on its way",
     "    mine = is_listed(node) && counter_is_owed(atomic_load_explicit(&c->state, memory_order_relaxed));\n",
     "    mine = is_listed(node);\n"),
    ("core/counter.c", "WAITERS goes with nothing owed",
     "(!c->waiters && counter_is_owed(s) ? COUNTER_WAITERS : 0)",
     "(!c->waiters ? COUNTER_WAITERS : 0)"),
    ("core/counter.c", "enlisted at a settled counter",
     "        if (also && counter_is_settled(s))\n            return false;\n", ""),
    ("core/counter.c", "WAITERS set after the lock",
     "    c->waiters = node;\n    set_listed(node, true);\n    unlock(c, 0);\n",
     "    c->waiters = node;\n    set_listed(node, true);\n    unlock(c, COUNTER_WAITERS);\n"
     "    atomic_fetch_or_explicit(&c->state, COUNTER_WAITERS, memory_order_relaxed);\n"),
    ("core/counter.c", "two write the record",
     "atomic_compare_exchange_strong_explicit(&c->claimed, &free, 1, memory_order_relaxed,\n"
     "                                                           memory_order_relaxed)) { /* one writer */",
     "(free = 1)) {"),
    ("core/counter.c", "outcome noted after the unit's release",
     "    counter_note(c, outcome, failure);\n    counter_settle(c, 1);\n",
     "    counter_settle(c, 1);\n    counter_note(c, outcome, failure);\n"),
    ("core/counter.c", "a better outcome replaces the worst",
     "    while (counter_outcome_of(s) < outcome) {\n", "    while (counter_outcome_of(s) != outcome) {\n"),
    ("core/counter.c", "released by hand without a look for what is apart",
     "        if (UNLIKELY(s & COUNTER_APART) && s < COUNTER_BY_HAND && settle_apart(c)) /* what was added since goes first */\n"
     "            return;\n", "        ;\n"),
    ("core/counter.c", "a hand lets nobody go",
     "    if (UNLIKELY(s & COUNTER_WAITERS) && s < COUNTER_BY_HAND + COUNTER_ONE && !(s & COUNTER_LOCAL)) /* C5 */\n"
     "        finish(c);\n", ""),
    ("core/counter.c", "set apart, and nobody lets go who waits",
     "    if (UNLIKELY(to & COUNTER_WAITERS) && to < COUNTER_ONE)\n        finish(c);\n    return true;\n",
     "    return true;\n"),
    ("core/counter.c", "put back without the lock",
     "    lock(c, 0);\n    apart = atomic_load_explicit(&c->mine, memory_order_relaxed); /* LOCK */\n"
     "    atomic_store_explicit(&c->mine, 0, memory_order_relaxed);     /* LOCK */\n",
     "    apart = atomic_load_explicit(&c->mine, memory_order_relaxed);\n"
     "    atomic_store_explicit(&c->mine, 0, memory_order_relaxed);\n    lock(c, 0);\n"),
    ("core/counter.c", "set apart with the outcome of who has ended",
     "    counter_note(c, COIR_CANCELED, NULL);\n", ""),
    ("core/counter.h", "settled though locked",
     "return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_WAITERS | COUNTER_LOCK));",
     "return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_WAITERS));"),
    ("core/counter.h", "settled though a finisher is to come",
     "return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_WAITERS | COUNTER_LOCK));",
     "return state < COUNTER_ONE && !(state & (COUNTER_LOCAL | COUNTER_LOCK));"),
    # ---------------------------------------------------------------------------------- fiber
    ("core/fiber.c", "generation not checked",
     "        if (fiber_generation_of(w) != generation || (s != FIBER_PARKED && s != FIBER_PARKING))\n",
     "        if (s != FIBER_PARKED && s != FIBER_PARKING)\n"),
    ("core/fiber.h", "generation does not grow", "fiber_generation_of(w) + 1, WAKE_NONE, FIBER_RUNNING",
     "fiber_generation_of(w), WAKE_NONE, FIBER_RUNNING"),
    ("core/fiber.c", "ready while its stack is in use",
     "enum fiber_state to = s == FIBER_PARKED ? FIBER_READY : FIBER_NOTIFIED;",
     "enum fiber_state to = FIBER_READY;"),
    ("core/fiber.c", "published over a notice",
     "    if (atomic_compare_exchange_strong_explicit(&f->state, &w, parked, memory_order_release,\n"
     "                                                memory_order_acquire)) /* STACK; NOTICE */\n        return true;\n",
     "    atomic_store_explicit(&f->state, parked, memory_order_release);\n    if (w)\n        return true;\n"),
    ("core/fiber.c", "woken by a store, not by a CAS",
     "        if (atomic_compare_exchange_weak_explicit(&f->state, &w, fiber_word(generation, reason, to),\n"
     "                                                  memory_order_acq_rel,\n"
     "                                                  memory_order_relaxed)) /* STACK; NOTICE */\n"
     "            return to == FIBER_READY;\n",
     "        atomic_store_explicit(&f->state, fiber_word(generation, reason, to), memory_order_release);\n"
     "        return to == FIBER_READY;\n"),
    ("core/fiber.c", "a parked stack is read without a claim",
     "            atomic_compare_exchange_weak_explicit(&f->state, &w,\n"
     "                                                  fiber_word(*generation, WAKE_NONE, FIBER_PARKING),\n"
     "                                                  memory_order_acquire,\n"
     "                                                  memory_order_relaxed)) /* STACK */\n",
     "            true)\n"),
    ("core/fiber.c", "a canceler does not wait for a fiber on its way",
     "        if (s != FIBER_PARKED && s != FIBER_PARKING)\n            return false;\n"
     "        if (s == FIBER_PARKING) /*", "        if (s != FIBER_PARKED)\n            return false;\n"
     "        if (s == FIBER_PARKING) /*"),
    ("tests/explore/fiber.c", "cancel looked for before PARKING",
     "    uint64_t generation = begin();\n\n    if (counter_canceled(&counter))\n",
     "    bool asked = counter_canceled(&counter);\n    uint64_t generation = begin();\n\n    if (asked)\n"),
    ("tests/explore/fiber.c", "published before the stack is left",
     "    stack = 0;\n    if (!fiber_publish(&f))\n        queue();\n    return true;\n",
     "    if (!fiber_publish(&f))\n        queue();\n    stack = 0;\n    return true;\n"),
    # ---------------------------------------------------------------------------------- timer
    ("core/timer.c", "fires after the lock",
     "        take_out(h, t);\n        t->fire(t);\n        fired++;\n",
     "        take_out(h, t);\n        lock_drop(&h->lock);\n        t->fire(t);\n"
     "        lock_take(&h->lock);\n        fired++;\n"),
    ("core/timer.c", "armed looked at without the lock",
     "    lock_take(&h->lock);\n    if (t->back) {\n        take_out(h, t);\n        publish_earliest(h);\n    }\n"
     "    lock_drop(&h->lock);\n",
     "    if (!t->back)\n        return;\n    lock_take(&h->lock);\n    if (t->back) {\n        take_out(h, t);\n"
     "        publish_earliest(h);\n    }\n    lock_drop(&h->lock);\n"),
    ("core/timer.c", "expires without the lock",
     "|| !lock_try(&h->lock))\n        return 0;\n", "|| (lock_try(&h->lock), false))\n        return 0;\n"),
    ("core/timer.c", "fires what is not due",
     "fired < EXPIRE_BATCH && h->root && h->root->deadline <= now",
     "fired < EXPIRE_BATCH && h->root && h->root->deadline <= now + 1"),
    ("core/timer.c", "earliest not renewed by an expiry",
     "    publish_earliest(h);\n    lock_drop(&h->lock);\n    return fired;\n",
     "    lock_drop(&h->lock);\n    return fired;\n"),
    ("core/timer.c", "earliest renewed after the lock",
     "    publish_earliest(h);\n    lock_drop(&h->lock);\n    return fired;\n",
     "    lock_drop(&h->lock);\n    publish_earliest(h);\n    return fired;\n"),
    ("core/timer.c", "siblings forgotten", "            t->back->child = t->next;\n",
     "            t->back->child = NULL;\n"),
    # ----------------------------------------------------------------------------------- base
    ("core/base.h", "lock by load and store",
     "atomic_compare_exchange_strong_explicit(&l->word, &w, w + 1, memory_order_acquire,\n"
     "                                                               memory_order_relaxed); /* LOCK */\n",
     "(atomic_store_explicit(&l->word, w + 1, memory_order_relaxed), true);\n"),
]

LATE_STORE = ("load->store order, which the model leaves out; moved in the source it is killed: "
              "\"item (slot) read after the CAS\", \"a slot is written before the look\"")
COMPILER = "against the compiler only, which reorders nothing here"

STAYS = {
    "deque.c: deque_room: load &d->window: acquire -> relaxed": LATE_STORE,
    "deque.c: deque_look_for_room: load &d->window: acquire -> relaxed": LATE_STORE,
    "deque.h: deque_lower: atomic_signal_fence left out": COMPILER,
    "ring.c: has_room: load &r->head: acquire -> relaxed": LATE_STORE,
    "ring.c: claim: compare_exchange_weak &r->head: acquire -> relaxed": LATE_STORE,
    "ring.c: ring_steal: compare_exchange_weak &r->head: release -> relaxed": LATE_STORE,
    "ring.h: ring_take_claimed: atomic_signal_fence left out": COMPILER,
    "park.h: park_is_due: atomic_signal_fence left out": COMPILER,
    "park.h: park_may_be_due: atomic_signal_fence left out": COMPILER,
    "counter.c: taken out though a finisher is on its way":
        "no harm: the waiter reports its deadline and waits again; the rule saves it that",
    "counter.h: settled though locked":
        "no harm while nobody frees a counter that another still waits on",
}
