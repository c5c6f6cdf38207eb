/* SPDX-License-Identifier: MIT */
/*
 * map_test.c - core/map*.c: who fails with whom, what is left, as it is now; while all of it changes.
 * With COIR_MAP set in the environment the maps of the cases are printed.
 */
#include "pools.h"
#include "supervisors.h"

#include <pthread.h>

/* ----------------------------------------------------------------------------- reading one */

struct map_lines {
    char text[1 << 20];
    size_t used, lines;
};

static struct map_lines map;

static void keep(void *arg, const char *line)
{
    struct map_lines *m = arg;

    m->used += (size_t)snprintf(m->text + m->used, sizeof m->text - m->used, "%s\n", line);
    CHECK(m->used < sizeof m->text);
    m->lines++;
}

static void print(coir_runtime *rt)
{
    map.used = map.lines = 0;
    CHECK_EQ(coir_map_print(rt, keep, &map), COIR_OK);
    if (getenv("COIR_MAP"))
        fprintf(stderr, "%s\n", map.text);
}

/* The words of a line, one blank between them, from its name on. */
static void squeeze(const char *line, char *words)
{
    size_t n = 0;

    while (*line && (*line == ' ' || (unsigned char)*line >= 0x80)) /* the tree's branches */
        line++;
    for (; *line && *line != '\n'; line++)
        if (*line != ' ' || (n && words[n - 1] != ' '))
            words[n++] = *line;
    words[n] = '\0';
}

/* The line of a name; "": there is none. */
static const char *row(const char *name)
{
    static char words[1024];

    for (const char *line = map.text; *line; line = strchr(line, '\n') + 1) {
        squeeze(line, words);
        if (strncmp(words, name, strlen(name)) == 0 && words[strlen(name)] == ' ')
            return words;
    }
    words[0] = '\0';
    return words;
}

static void says(const char *name, const char *what)
{
    if (!strstr(row(name), what))
        fprintf(stderr, "the row: %s\n", row(name));
    CHECK(strstr(row(name), what) != NULL);
}

/* ---------------------------------------------------------------------------------- domains */

static void domains_say_their_limits_and_what_is_left(void)
{
    coir_domain_options o = domain_options("requests"), below = domain_options("client 7");
    coir_runtime *rt = run_open(2);
    struct hold hold = {0, 0};
    coir_counter c = COIR_COUNTER_INIT, broken = COIR_COUNTER_INIT;
    coir_domain *d, *client;

    o.jobs_max = 10;
    o.full = COIR_FULL_WAIT;
    o.full_wait_ns = 20 * COIR_MS;
    o.panics_max = 3;
    o.panics_window_ns = 60 * COIR_SEC;
    o.probe_ns = 3600 * COIR_SEC;
    o.memory_max = 64 << 10;
    o.deadline_ns = 2 * COIR_SEC;
    below.stacks_max = 8;
    d = domain_open(rt, NULL, &o);
    client = domain_open(rt, d, &below);
    CHECK_EQ(coir_domain_charge(client, 16 << 10), COIR_OK);
    CHECK_EQ(coir_domain_submit(client, &c, job_hold, &hold), COIR_OK);
    run_until(&hold.started);
    print(rt);
    CHECK_EQ(map.lines, 4);
    says("what", "is a state takes along failures left jobs places left stacks left memory left policies");
    says("coir", "runtime open nobody - ");
    says("coir", "2 workers; a panic unwinds; no fault is contained");
    says("requests", "domain open its jobs 3/3 in 60 s 1 9/10 - 48.0K/64.0K "
                     "full: callers wait up to 20 ms; starts within 2 s; probes after 3600 s");
    says("client 7", "domain open jobs of requests - 1 - 8/8 -");
    CHECK_EQ(coir_domain_submit(client, &broken, job_panic, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&broken), COIR_PANICKED);
    print(rt);
    says("requests", "domain open its jobs 2/3 in 60 s");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(coir_domain_submit(d, &broken, job_panic, NULL), COIR_OK);
        CHECK_EQ(coir_wait(&broken), COIR_PANICKED);
    }
    print(rt);
    says("requests", "domain tripped its jobs 0/3 in 60 s");
    CHECK_EQ(coir_domain_discharge(client, 16 << 10), COIR_OK);
    CHECK_EQ(coir_domain_cancel(client), COIR_OK);
    print(rt);
    says("client 7", "domain canceled");
    run_set(&hold.go);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(d);
    print(rt);
    CHECK_EQ(map.lines, 2);
    run_close(rt);
}

static coir_mutex careful, plain;

static void holds_two(void *hold)
{
    CHECK_EQ(coir_mutex_lock(&careful), COIR_OK);
    CHECK_EQ(coir_mutex_lock(&plain), COIR_OK);
    job_block(hold);
    CHECK_EQ(coir_mutex_unlock(&plain), COIR_OK);
    CHECK_EQ(coir_mutex_unlock(&careful), COIR_OK);
}

static void locks_that_parked_jobs_hold_are_counted_with_their_policy(void)
{
    coir_domain_options o = domain_options("ledger");
    coir_counter c = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(1);
    coir_domain *d = domain_open(rt, NULL, &o);
    struct blocked b = {0, 0};

    CHECK_EQ(coir_mutex_init(&careful, COIR_MUTEX_ABORT), COIR_OK);
    CHECK_EQ(coir_mutex_init(&plain, COIR_MUTEX_POISON), COIR_OK);
    CHECK_EQ(coir_domain_submit(d, &c, holds_two, &b), COIR_OK);
    do
        print(rt);
    while (!strstr(row("ledger"), "holds")); /* until it has parked */
    says("ledger", "holds 2 locks, 1 would abort the process");
    CHECK_EQ(coir_counter_cancel(&c), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    print(rt);
    CHECK(strstr(map.text, "holds") == NULL);
    domain_close(d);
    run_close(rt);
}

/* --------------------------------------------------------------------------------- supervisors */

static void supervisors_say_who_goes_along_and_which_restarts_are_left(void)
{
    struct story story = STORY_INIT;
    struct kid a = {.name = "a", .story = &story}, b = {.name = "b", .story = &story},
               x = {.name = "x", .story = &story}, y = {.name = "y", .story = &story};
    coir_child_spec all[] = {kid_spec(&a), kid_spec(&b)}, rest[3] = {kid_spec(&x), kid_spec(&y), {0}};
    coir_supervisor_options top, sub = supervisor_options(COIR_ONE_FOR_ALL, all, 2);
    coir_counter end = COIR_COUNTER_INIT;
    coir_runtime *rt = run_open(2);
    coir_supervisor *s;

    all[1].restart = COIR_TEMPORARY;
    sub.name = "sub";
    sub.max_restarts = 2;
    sub.max_seconds = 1000;
    sub.backoff_ns = COIR_MS;
    rest[2] = (coir_child_spec){.size = sizeof rest[2], .name = "sub", .supervisor = &sub};
    top = supervisor_options(COIR_REST_FOR_ONE, rest, 3);
    s = supervisor_open(rt, &top, &end);
    print(rt);
    CHECK_EQ(map.lines, 8);
    says("top", "supervisor running its children 100/100 in 100 s");
    says("top", "rest_for_one, 0 restarts");
    says("x", "child running those after it - 1");
    says("sub", "supervisor running nobody 2/2 in 1000 s");
    says("a", "child running all of sub - 1");
    says("b", "child running nobody");
    CHECK(strstr(map.text, "─ x") < strstr(map.text, "─ y")); /* as they were started */
    kid_end(&a, 1);
    kid_await(&a, 2);
    await_state(s, "a", COIR_CHILD_RUNNING);
    print(rt);
    says("sub", "1/2 in 1000 s");
    says("sub", "one_for_all, 1 restart, backoff 1 ms");
    says("a", "permanent, 2 starts, failed 1, last: COIR_PANICKED planned: a");
    CHECK_STR(row("b"), ""); /* stopped with the others, and temporary */
    kid_end(&y, 0);
    kid_await(&y, 2);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&end), COIR_DONE);
    run_close(rt);
}

/* ---------------------------------------------------------------------------------------- pools */

static void pools_say_their_budgets(void)
{
    coir_domain_options bulkhead = domain_options("reports");
    struct job_message held = {.m = {0}}, bad = {.fails = 9};
    coir_pool_options o = pool_options("mailer");
    coir_runtime *rt = run_open(2);
    coir_quarantine *q = quarantine_of(rt, 2, COIR_SEC);
    coir_domain *d = domain_open(rt, NULL, &bulkhead);
    coir_pool *p;

    o.parent = d;
    o.workers = 2;
    o.queue_max = 50;
    o.attempts_max = 2;
    o.backoff_ns = COIR_MS;
    o.failures_max = 4;
    o.quarantine = q;
    p = pool_open(rt, &o);
    CHECK_EQ(pool_run(p, &bad), COIR_FAILED);
    pool_hold_one(p, &held);
    print(rt);
    CHECK_EQ(map.lines, 4);
    says("mailer", "pool open its messages 2/4 in 10 s 2 49/50");
    says("mailer", "2 workers; 2 attempts, backoff 1 ms to 10 s; dead letter (1 so far); quarantine; "
                   "full: refuses; probes after 1 s");
    run_set(&held.go);
    pool_close(p);
    CHECK_EQ(coir_quarantine_close(q), COIR_OK);
    domain_close(d);
    run_close(rt);
}

/* ------------------------------------------------------------------------------ as a graph */

static void as_a_graph_names_are_escaped_and_groups_are_framed(void)
{
    struct story story = STORY_INIT;
    struct kid a = {.name = "<&\">", .story = &story}, b = {.name = "b", .story = &story};
    coir_child_spec children[] = {kid_spec(&a), kid_spec(&b)};
    coir_supervisor_options top = supervisor_options(COIR_ONE_FOR_ALL, children, 2);
    coir_runtime *rt = run_open(1);
    coir_supervisor *s = supervisor_open(rt, &top, NULL);

    map.used = map.lines = 0;
    CHECK_EQ(coir_map_dot(rt, keep, &map), COIR_OK);
    if (getenv("COIR_MAP"))
        fprintf(stderr, "%s\n", map.text);
    CHECK_EQ(strncmp(map.text, "digraph failure_domains {\n", 26), 0);
    CHECK_STR(map.text + map.used - 2, "}\n");
    CHECK(strstr(map.text, "<b>&lt;&amp;&quot;&gt;</b>") != NULL);
    CHECK(strstr(map.text, "n0 -> n1;") != NULL);
    CHECK(strstr(map.text, "subgraph cluster_1 {") != NULL);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    run_close(rt);
}

/* ------------------------------------------------------------------------ while all of it changes */

static struct busy {
    coir_runtime *rt;
    int stop;
} busy;

/* Opens and closes trees, until told to stop. */
static void *open_and_close(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&busy.stop, __ATOMIC_RELAXED)) {
        coir_domain *d = domain_open(busy.rt, NULL, NULL), *below = domain_open(busy.rt, d, NULL);
        coir_pool_options o = pool_options("pool");
        coir_pool *p;

        o.parent = below;
        p = pool_open(busy.rt, &o);
        pool_close(p);
        domain_close(d);
    }
    return NULL;
}

static void breaks_at_random(void *n)
{
    coir_child_ready();
    for (int i = 0; i < 3 + (int)(coir_job_id() % 5); i++)
        coir_yield();
    if (coir_job_id() % 3)
        coir_panic("child %d", *(int *)n);
}

static void *supervise(void *unused)
{
    static int number[] = {0, 1, 2};
    coir_child_spec leaf[2], child[2];
    coir_supervisor_options sub, top;

    (void)unused;
    for (int i = 0; i < 2; i++)
        leaf[i] = (coir_child_spec){.size = sizeof leaf[i], .name = i ? "l1" : "l0", .fn = breaks_at_random,
                                    .arg = &number[i], .tells_ready = 1};
    sub = supervisor_options(COIR_ONE_FOR_ALL, leaf, 2);
    sub.max_restarts = 3;
    child[0] = (coir_child_spec){.size = sizeof child[0], .name = "sub", .supervisor = &sub};
    child[1] = leaf[1];
    top = supervisor_options(COIR_REST_FOR_ONE, child, 2);
    top.max_restarts = 5;
    while (!__atomic_load_n(&busy.stop, __ATOMIC_RELAXED)) {
        coir_counter end = COIR_COUNTER_INIT;
        coir_supervisor *s;

        if (coir_supervisor_open(busy.rt, NULL, &top, &end, &s) != COIR_OK)
            continue; /* a child broke before all had started */
        CHECK(coir_wait(&end) >= 0);
        CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    }
    return NULL;
}

static void it_may_be_drawn_while_all_of_it_changes(void)
{
    coir_options o = run_options(2);
    pthread_t changing[2];
    size_t most = 0;

    busy = (struct busy){.stop = 0};
    CHECK_EQ(coir_open(&o, &busy.rt), COIR_OK);
    CHECK_EQ(pthread_create(&changing[0], NULL, open_and_close, NULL), 0);
    CHECK_EQ(pthread_create(&changing[1], NULL, supervise, NULL), 0);
    for (int i = 0; i < MANY(4000) || most < 8; i++) {
        map.used = map.lines = 0;
        CHECK_EQ((i % 2 ? coir_map_dot : coir_map_print)(busy.rt, keep, &map), COIR_OK);
        if (i % 2 == 0 && map.lines > most)
            most = map.lines;
    }
    __atomic_store_n(&busy.stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(changing[i], NULL), 0);
    run_close(busy.rt);
}

/* --------------------------------------------------------------------------------------- many */

enum { WIDE = 300, DEEP = 60 };

static void any_number_is_shown_in_order(void)
{
    coir_domain *wide[WIDE], *deep[DEEP];
    coir_runtime *rt = run_open(1);
    const char *at;

    for (int i = 0; i < WIDE; i++) {
        char name[32];
        coir_domain_options o = domain_options(name);

        snprintf(name, sizeof name, "wide%03d", i);
        wide[i] = domain_open(rt, NULL, &o);
    }
    for (int i = 0; i < DEEP; i++)
        deep[i] = domain_open(rt, i ? deep[i - 1] : NULL, NULL);
    print(rt);
    CHECK_EQ(map.lines, 2 + WIDE + DEEP);
    at = map.text;
    for (int i = 0; i < WIDE && at; i++) {
        char name[32];

        snprintf(name, sizeof name, "─ wide%03d ", i);
        at = strstr(at, name);
        CHECK(at != NULL);
    }
    for (int i = 0; i < WIDE; i++)
        domain_close(wide[i]);
    domain_close(deep[0]);
    run_close(rt);
}

enum { DEPTH_MAX = 128 }; /* as coir.h says */

static void look_at_all_of_it(void *top)
{
    map.used = map.lines = 0;
    CHECK_EQ(coir_map_print(coir_current(), keep, &map), COIR_OK);
    CHECK_EQ(map.lines, 2 + DEPTH_MAX);
    map.used = map.lines = 0;
    CHECK_EQ(coir_map_dot(coir_current(), keep, &map), COIR_OK);
    CHECK_EQ(domain_stats(top).ended[COIR_DONE], 1);
}

static void a_tree_as_deep_as_may_be_is_looked_at_on_a_stack(void)
{
    coir_domain *deep[DEPTH_MAX], *deeper = (coir_domain *)&map;
    coir_runtime *rt = run_open(1);
    coir_counter c = COIR_COUNTER_INIT;
    int ran = 0;

    for (int i = 0; i < DEPTH_MAX; i++)
        deep[i] = domain_open(rt, i ? deep[i - 1] : NULL, NULL);
    CHECK_EQ(coir_domain_open(rt, deep[DEPTH_MAX - 1], NULL, &deeper), COIR_ERANGE);
    CHECK(deeper == NULL);
    CHECK_EQ(domain_run(deep[DEPTH_MAX - 1], job_count, &ran, NULL), COIR_DONE);
    CHECK_EQ(coir_submit(rt, &c, look_at_all_of_it, deep[0]), COIR_OK);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
    domain_close(deep[0]);
    run_close(rt);
}

static int refuse;

static void *alloc(size_t bytes, void *arg)
{
    (void)arg;
    return __atomic_load_n(&refuse, __ATOMIC_RELAXED) ? NULL : malloc(bytes);
}

static void release(void *memory, void *arg)
{
    (void)arg;
    free(memory);
}

static void what_cannot_be_is_refused(void)
{
    coir_options o = run_options(1);
    coir_runtime *rt;

    o.alloc = alloc;
    o.free = release;
    CHECK_EQ(coir_open(&o, &rt), COIR_OK);
    CHECK_EQ(coir_map_print(NULL, keep, &map), COIR_EINVAL);
    CHECK_EQ(coir_map_print(rt, NULL, &map), COIR_EINVAL);
    CHECK_EQ(coir_map_dot(NULL, keep, &map), COIR_EINVAL);
    CHECK_EQ(coir_map_dot(rt, NULL, &map), COIR_EINVAL);
    __atomic_store_n(&refuse, 1, __ATOMIC_RELAXED);
    CHECK_EQ(coir_map_print(rt, keep, &map), COIR_ENOMEM);
    CHECK_EQ(coir_map_dot(rt, keep, &map), COIR_ENOMEM);
    __atomic_store_n(&refuse, 0, __ATOMIC_RELAXED);
    run_close(rt);
}

static void names_forge_no_line(void)
{
    coir_runtime *rt = run_open(1);
    coir_domain_options o = {.size = sizeof o, .name = "do\nm\033"};
    coir_domain *d = domain_open(rt, NULL, &o);

    print(rt);
    CHECK(strstr(map.text, " do?m? ") != NULL);
    domain_close(d);
    run_close(rt);
}

static void panic_line(void *unused, const char *text)
{
    (void)unused;
    coir_panic("planned: %s", text);
}

static void draw_and_panic(void *draw)
{
    CHECK(((int (*)(coir_runtime *, void (*)(void *, const char *), void *))draw)(coir_current(), panic_line,
                                                                                  NULL) < 0);
}

/* ASan would find it. */
static void a_line_that_panics_leaves_no_memory_behind(void)
{
    coir_runtime *rt = run_open(1);
    coir_counter c[2] = {COIR_COUNTER_INIT, COIR_COUNTER_INIT};

    CHECK_EQ(coir_submit(rt, &c[0], draw_and_panic, (void *)coir_map_print), COIR_OK);
    CHECK_EQ(coir_submit(rt, &c[1], draw_and_panic, (void *)coir_map_dot), COIR_OK);
    CHECK_EQ(coir_wait(&c[0]), COIR_PANICKED);
    CHECK_EQ(coir_wait(&c[1]), COIR_PANICKED);
    run_close(rt);
}

CHECK_MAIN(CASE(domains_say_their_limits_and_what_is_left),
           CASE(locks_that_parked_jobs_hold_are_counted_with_their_policy),
           CASE(supervisors_say_who_goes_along_and_which_restarts_are_left), CASE(pools_say_their_budgets),
           CASE(as_a_graph_names_are_escaped_and_groups_are_framed),
           CASE(it_may_be_drawn_while_all_of_it_changes), CASE(any_number_is_shown_in_order),
           CASE(a_tree_as_deep_as_may_be_is_looked_at_on_a_stack),
           CASE(what_cannot_be_is_refused), CASE(names_forge_no_line), CASE(a_line_that_panics_leaves_no_memory_behind))
