/* SPDX-License-Identifier: MIT */
/*
 * litmus.c - the machine itself: what C11 allows does happen on it, what C11 forbids does not. The
 * names are the literature's: SB, MP, WRC, LB, 2+2W, R, CoRR (Alglave et al., 2014).
 *
 * ALLOWED scenarios deny an outcome and must fail; the others deny one and must not.
 */
#include "base.h"

#include "explore.h"

#define ALLOWED .fails = "C11 allows it, and so it should"

static _Atomic int x, y;
static int r1, r2, r3;   /* what thread 1, 2, 3 has read; each its own */
static int plain;

static void setup(void)
{
    atomic_store_explicit(&x, 0, memory_order_relaxed);
    atomic_store_explicit(&y, 0, memory_order_relaxed);
    r1 = r2 = r3 = -1;
    plain = 0;
}

#define LOAD(place, order) atomic_load_explicit(&place, memory_order_##order)
#define STORE(place, value, order) atomic_store_explicit(&place, value, memory_order_##order)
#define FENCE(order) atomic_thread_fence(memory_order_##order)
#define THREAD(name, ...)          \
    static void name(void)         \
    {                              \
        __VA_ARGS__;               \
    }

/* SB: each stores, then looks at the other. Do both miss it? */
THREAD(sb1, STORE(x, 1, relaxed); r1 = LOAD(y, relaxed))
THREAD(sb2, STORE(y, 1, relaxed); r2 = LOAD(x, relaxed))
THREAD(sb1_sync, STORE(x, 1, release); r1 = LOAD(y, acquire))
THREAD(sb2_sync, STORE(y, 1, release); r2 = LOAD(x, acquire))
THREAD(sb1_fence, STORE(x, 1, relaxed); FENCE(seq_cst); r1 = LOAD(y, relaxed))
THREAD(sb2_fence, STORE(y, 1, relaxed); FENCE(seq_cst); r2 = LOAD(x, relaxed))
THREAD(sb1_sc, STORE(x, 1, seq_cst); r1 = LOAD(y, seq_cst))
THREAD(sb2_sc, STORE(y, 1, seq_cst); r2 = LOAD(x, seq_cst))
THREAD(sb2_rmw, atomic_exchange_explicit(&y, 1, memory_order_acq_rel); r2 = LOAD(x, relaxed))
THREAD(sb2_membarrier, STORE(y, 1, relaxed); syscall(SYS_membarrier, 8, 0, 0);
       r2 = LOAD(x, relaxed))
THREAD(check_sb, MUST(r1 == 1 || r2 == 1))

/* MP: data, then a flag. Is the flag seen, and the data not? */
THREAD(mp1, STORE(x, 1, relaxed); STORE(y, 1, relaxed))
THREAD(mp1_release, STORE(x, 1, relaxed); STORE(y, 1, release))
THREAD(mp1_fence, STORE(x, 1, relaxed); FENCE(release); STORE(y, 1, relaxed))
THREAD(mp1_later, STORE(x, 1, relaxed); STORE(y, 1, release); STORE(y, 2, relaxed))
THREAD(mp2, r1 = LOAD(y, relaxed); r2 = LOAD(x, relaxed))
THREAD(mp2_acquire, r1 = LOAD(y, acquire); r2 = LOAD(x, relaxed))
THREAD(mp2_fence, r1 = LOAD(y, relaxed); FENCE(acquire); r2 = LOAD(x, relaxed))
THREAD(mp3_rmw, atomic_fetch_add_explicit(&y, 1, memory_order_relaxed))
THREAD(check_mp, MUST(r1 <= 0 || r2 == 1))
THREAD(check_mp_later, MUST(r1 != 2 || r2 == 1))
/* The flag of one, counted on by another: the release sequence goes on. */
THREAD(check_mp_rmw, MUST(r1 != 2 || r2 == 1))

/* The same with plain data: a race unless the flag orders it. */
THREAD(race1, plain = 1; STORE(y, 1, relaxed))
THREAD(race1_release, plain = 1; STORE(y, 1, release))
THREAD(race2, if (LOAD(y, acquire)) MUST(plain == 1))

/* WRC: what one has seen, and passes on. */
THREAD(wrc1, STORE(x, 1, relaxed))
THREAD(wrc2, r2 = LOAD(x, relaxed); STORE(y, r2, release))
THREAD(wrc2_relaxed, r2 = LOAD(x, relaxed); STORE(y, r2, relaxed))
THREAD(wrc3, r3 = LOAD(y, acquire); r1 = LOAD(x, relaxed))
THREAD(check_wrc, MUST(r3 <= 0 || r1 == 1))

/* LB: each reads what the other writes afterwards. C11 allows it; this machine cannot do it. */
THREAD(lb1, r1 = LOAD(y, relaxed); STORE(x, 1, relaxed))
THREAD(lb2, r2 = LOAD(x, relaxed); STORE(y, 1, relaxed))
THREAD(check_lb, MUST(r1 == 0 || r2 == 0))

/* 2+2W: does each one's first store win? */
THREAD(ww1, STORE(x, 1, relaxed); STORE(y, 2, relaxed))
THREAD(ww2, STORE(y, 1, relaxed); STORE(x, 2, relaxed))
THREAD(ww1_fence, STORE(x, 1, relaxed); FENCE(seq_cst); STORE(y, 2, relaxed))
THREAD(ww2_fence, STORE(y, 1, relaxed); FENCE(seq_cst); STORE(x, 2, relaxed))
THREAD(check_ww, MUST(LOAD(x, relaxed) != 1 || LOAD(y, relaxed) != 1))

/* R: a store that comes second, and a load that comes too early. */
THREAD(r_1, STORE(x, 1, relaxed); STORE(y, 1, release))
THREAD(r_2, STORE(y, 2, release); r2 = LOAD(x, acquire))
THREAD(r_1_fence, STORE(x, 1, relaxed); FENCE(seq_cst); STORE(y, 1, relaxed))
THREAD(r_2_fence, STORE(y, 2, relaxed); FENCE(seq_cst); r2 = LOAD(x, relaxed))
THREAD(check_r, MUST(LOAD(y, relaxed) != 2 || r2 == 1))

/* CoRR: one place never goes back. RMWs never meet the same value. */
THREAD(co1, STORE(x, 1, relaxed); STORE(x, 2, relaxed))
THREAD(co2, r1 = LOAD(x, relaxed); r2 = LOAD(x, relaxed))
THREAD(check_co, MUST(r2 >= r1))
THREAD(add1, r1 = atomic_fetch_add_explicit(&x, 1, memory_order_relaxed))
THREAD(add2, r2 = atomic_fetch_add_explicit(&x, 1, memory_order_relaxed))
THREAD(check_add, MUST(r1 != r2 && LOAD(x, relaxed) == 2))

/* A weak CAS fails for no reason, a strong one does not. */
THREAD(weak, int zero = 0; MUST(atomic_compare_exchange_weak_explicit(
                 &x, &zero, 1, memory_order_relaxed, memory_order_relaxed)))
THREAD(strong, int zero = 0; MUST(atomic_compare_exchange_strong_explicit(
                   &x, &zero, 1, memory_order_relaxed, memory_order_relaxed)))

/* Plain code that writes where another has an atomic object, or before it has one: ordered or a race. */
#define PLAIN(place) (*(int *)(void *)&place)
THREAD(over1, PLAIN(x) = 1; STORE(y, 1, release))
THREAD(over1_relaxed, PLAIN(x) = 1; STORE(y, 1, relaxed))
THREAD(over2, if (LOAD(y, acquire)) MUST(LOAD(x, relaxed) == 1))
THREAD(use1, STORE(x, 1, relaxed); STORE(y, 1, release))
THREAD(use1_later, STORE(y, 1, release); STORE(x, 1, relaxed))
THREAD(use2, if (LOAD(y, acquire)) PLAIN(x) = 2)

/* Each has its own. */
static __thread int local;
THREAD(local1, local++; STORE(x, 1, relaxed); MUST(local == 1))
THREAD(local2, local++; LOAD(x, relaxed); MUST(local == 1))

EXPLORE_MAIN(
    {.name = "SB", setup, {sb1, sb2}, check_sb, ALLOWED},
    {.name = "SB.release_acquire", setup, {sb1_sync, sb2_sync}, check_sb, ALLOWED},
    {.name = "SB.one_fence", setup, {sb1_fence, sb2}, check_sb, ALLOWED},
    {.name = "SB.one_rmw", setup, {sb1_fence, sb2_rmw}, check_sb, ALLOWED},
    {.name = "SB.fences", setup, {sb1_fence, sb2_fence}, check_sb},
    {.name = "SB.seq_cst", setup, {sb1_sc, sb2_sc}, check_sb},
    {.name = "SB.membarrier", setup, {sb1, sb2_membarrier}, check_sb},
    {.name = "MP", setup, {mp1, mp2}, check_mp, ALLOWED},
    {.name = "MP.release_only", setup, {mp1_release, mp2}, check_mp, ALLOWED},
    {.name = "MP.acquire_only", setup, {mp1, mp2_acquire}, check_mp, ALLOWED},
    {.name = "MP.release_acquire", setup, {mp1_release, mp2_acquire}, check_mp},
    {.name = "MP.fences", setup, {mp1_fence, mp2_fence}, check_mp},
    {.name = "MP.a_later_store", setup, {mp1_later, mp2_acquire}, check_mp_later, ALLOWED},
    {.name = "MP.a_later_rmw", setup, {mp1_release, mp2_acquire, mp3_rmw}, check_mp_rmw},
    {.name = "MP.race", setup, {race1, race2}, NULL, ALLOWED},
    {.name = "MP.no_race", setup, {race1_release, race2}},
    {.name = "MP.atomic_race", setup, {over1_relaxed, over2}, NULL, ALLOWED},
    {.name = "MP.atomic_set_up", setup, {over1, over2}},
    {.name = "MP.reuse_race", setup, {use1_later, use2}, NULL, ALLOWED},
    {.name = "MP.reuse", setup, {use1, use2}},
    {.name = "LOCAL", setup, {local1, local2}},
    {.name = "WRC", setup, {wrc1, wrc2_relaxed, wrc3}, check_wrc, ALLOWED},
    {.name = "WRC.release", setup, {wrc1, wrc2, wrc3}, check_wrc},
    {.name = "LB", setup, {lb1, lb2}, check_lb},
    {.name = "2+2W", setup, {ww1, ww2}, check_ww, ALLOWED},
    {.name = "2+2W.fences", setup, {ww1_fence, ww2_fence}, check_ww},
    {.name = "R", setup, {r_1, r_2}, check_r, ALLOWED},
    {.name = "R.fences", setup, {r_1_fence, r_2_fence}, check_r},
    {.name = "CoRR", setup, {co1, co2}, check_co},
    {.name = "RMW", setup, {add1, add2}, check_add},
    {.name = "CAS.weak", setup, {weak}, NULL, ALLOWED},
    {.name = "CAS.strong", setup, {strong}})
