/* SPDX-License-Identifier: MIT */
/*
 * otp_program.c - runs schedules of crashes through coir's supervisor; tests/otp/otp.escript does the same with
 * Erlang/OTP's, and tests/otp_test.py compares them line by line.
 *
 * A line of input: strategy, max_restarts, max_seconds, children name:type,..., events. Events: at=MS (the clock),
 * crash=a+b and end=a (all of them end before the supervisor learns of the first), fail=a:N (so many of its next
 * starts), add=a:type, remove=a. A line of output: for the start and each event what was started (+a), failed to
 * start (!a) and was stopped (-a), and at last who is up, or that the supervisor gave up.
 */
#include "run.h"

#include "supervised.h"

#define KIDS 16

struct kid {
    char name[16];
    coir_child_spec spec;
    uint64_t id;
    int fails;            /* starts that are to fail; atomic */
    int crash;            /* how it is to end */
    coir_event go;        /* set: it is to end */
    int up;               /* atomic */
};

static struct kid kids[KIDS];
static int kid_count;
static _Atomic int64_t fake_now;
static char log_text[4096];
static struct lock log_lock;

static void say(char what, const char *name)
{
    size_t used;

    lock_take(&log_lock);
    used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s%c%s", used ? " " : "", what, name);
    lock_drop(&log_lock);
}

static void print_log(void)
{
    lock_take(&log_lock);
    printf("%s", log_text);
    log_text[0] = '\0';
    lock_drop(&log_lock);
}

static int64_t fake_clock(void)
{
    return atomic_load_explicit(&fake_now, memory_order_relaxed); /* set between events */
}

/* ------------------------------------------------------------------------------- the children */

static void run_kid(void *arg)
{
    struct kid *k = arg;

    if (__atomic_load_n(&k->fails, __ATOMIC_RELAXED) > 0) {
        __atomic_sub_fetch(&k->fails, 1, __ATOMIC_RELAXED);
        say('!', k->name);
        coir_panic("planned");
    }
    coir_event_reset(&k->go);
    say('+', k->name);
    __atomic_store_n(&k->up, 1, __ATOMIC_RELAXED);
    coir_child_ready();
    if (coir_event_wait(&k->go) != COIR_OK)
        say('-', k->name);
    __atomic_store_n(&k->up, 0, __ATOMIC_RELAXED);
    if (coir_event_is_set(&k->go) && k->crash)
        coir_panic("planned");
}

static struct kid *kid_of(const char *name)
{
    for (int i = 0; i < kid_count; i++)
        if (strcmp(kids[i].name, name) == 0)
            return &kids[i];
    return NULL;
}

/* name:type */
static struct kid *make_kid(char *text)
{
    char *type = strchr(text, ':');
    struct kid *k;

    *type++ = '\0';
    k = kid_of(text);
    if (!k) {
        k = &kids[kid_count++];
        memset(k, 0, sizeof *k);
    }
    snprintf(k->name, sizeof k->name, "%s", text);
    k->spec = (coir_child_spec){.size = sizeof k->spec, .name = k->name, .fn = run_kid, .arg = k, .tells_ready = 1};
    k->spec.restart = *type == 'p' ? COIR_PERMANENT : type[1] == 'r' ? COIR_TRANSIENT : COIR_TEMPORARY;
    return k;
}

/* ---------------------------------------------------------------------------------- the driver */

static coir_supervisor *open_with(coir_runtime *rt, char **word, coir_counter *end)
{
    static const char *const names[] = {"one_for_one", "one_for_all", "rest_for_one", "dynamic"};
    coir_supervisor_options o = {.size = sizeof o};
    coir_child_spec specs[KIDS];
    coir_supervisor *s = NULL;
    char *rest;

    while (strcmp(names[o.strategy], word[0]) != 0)
        o.strategy++;
    o.max_restarts = atoi(word[1]) ? (unsigned)atoi(word[1]) : COIR_RESTARTS_NONE;
    o.max_seconds = (unsigned)atoi(word[2]);
    for (char *k = strtok_r(word[3], ",", &rest); k; k = strtok_r(NULL, ",", &rest))
        specs[o.children_count++] = make_kid(k)->spec;
    o.children = specs;
    if (o.strategy == COIR_DYNAMIC)
        o.children_count = 0;
    CHECK_EQ(coir_supervisor_open(rt, NULL, &o, end, &s), COIR_OK);
    s->clock = fake_clock;
    for (int i = 0; o.strategy == COIR_DYNAMIC && i < kid_count; i++)
        CHECK_EQ(coir_supervisor_add(s, &kids[i].spec, &kids[i].id), COIR_OK);
    return s;
}

struct look {
    const char *name;
    uint64_t id, starts;
    int busy;
};

static void look_at(void *arg, const coir_child_info *info)
{
    struct look *l = arg;

    if (info->id && l->name && strcmp(info->name, l->name) == 0)
        l->id = info->id;
    l->starts += info->starts;
    l->busy |= info->id && info->state != COIR_CHILD_RUNNING && info->state != COIR_CHILD_ENDED;
}

static uint64_t id_of(coir_supervisor *s, const char *name)
{
    struct look l = {.name = name};

    CHECK_EQ(coir_supervisor_visit(s, look_at, &l), COIR_OK);
    return l.id;
}

/* Keeps the supervisor busy with the start of a child that never gets ready. */
struct plug {
    coir_supervisor *s;
    int in, out;
};

static void plug_in(void *arg)
{
    struct plug *p = arg;

    run_set(&p->in);
    run_until(&p->out);
}

static void add_plug(void *arg)
{
    struct plug *p = arg;
    coir_child_spec spec = {.size = sizeof spec, .name = "plug", .fn = plug_in, .arg = p, .tells_ready = 1};

    CHECK_EQ(coir_supervisor_add(p->s, &spec, NULL), COIR_ECHILD);
}

/* The mail of its end has come. The supervisor is busy, so the child is not freed. */
static void await_mail(coir_supervisor *s, const char *name)
{
    uint64_t id = id_of(s, name);
    struct child *c;

    for (c = s->first; c->id != id; c = c->next)
        ;
    while (!mailbox_was_sent(&s->mail, &c->mail))
        sched_yield();
}

static void end_all(coir_runtime *rt, coir_supervisor *s, char *names, int crash)
{
    coir_counter c = COIR_COUNTER_INIT;
    struct plug p = {s, 0, 0};
    char *rest;

    CHECK_EQ(coir_submit(rt, &c, add_plug, &p), COIR_OK);
    run_until(&p.in);
    for (char *name = strtok_r(names, "+", &rest); name; name = strtok_r(NULL, "+", &rest)) {
        struct kid *k = kid_of(name);

        if (!__atomic_load_n(&k->up, __ATOMIC_RELAXED))
            continue; /* it has gone with others: nothing happens, on the other side neither */
        k->crash = crash;
        coir_event_set(&k->go);
        await_mail(s, name);
    }
    run_set(&p.out);
    CHECK_EQ(coir_wait(&c), COIR_DONE);
}

/* Until nothing is left to be done. False: the supervisor has given up. A request comes behind all mail and
 * between two tries; so one that goes on to try has another number of starts after the next request. */
static int settle(coir_supervisor *s, coir_counter *end)
{
    struct look before, l = {.busy = 1};

    do {
        if (coir_supervisor_remove(s, UINT64_MAX) != COIR_ENOENT) {
            CHECK_EQ(coir_wait(end), COIR_PANICKED);
            return 0;
        }
        before = l;
        l = (struct look){.name = NULL};
        CHECK_EQ(coir_supervisor_visit(s, look_at, &l), COIR_OK);
    } while (l.busy || before.busy || l.starts != before.starts);
    return 1;
}

static void step(coir_runtime *rt, coir_supervisor *s, char *event)
{
    char *what = strchr(event, '=');

    *what++ = '\0';
    if (strcmp(event, "at") == 0) {
        atomic_store_explicit(&fake_now, 1000 * COIR_SEC + atoi(what) * COIR_MS, memory_order_relaxed); /* see above */
    } else if (strcmp(event, "fail") == 0) {
        char *n = strchr(what, ':');

        *n++ = '\0';
        __atomic_store_n(&kid_of(what)->fails, atoi(n), __ATOMIC_RELAXED);
    } else if (strcmp(event, "add") == 0) {
        struct kid *k = make_kid(what);
        int status = coir_supervisor_add(s, &k->spec, &k->id);

        CHECK(status == COIR_OK || status == COIR_ECHILD);
    } else if (strcmp(event, "remove") == 0) {
        CHECK_EQ(coir_supervisor_remove(s, id_of(s, what)), COIR_OK);
    } else {
        end_all(rt, s, what, event[0] == 'c');
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct kid *const *)a)->name, (*(struct kid *const *)b)->name);
}

static void print_up(int alive)
{
    struct kid *sorted[KIDS];

    for (int i = 0; i < kid_count; i++)
        sorted[i] = &kids[i];
    qsort(sorted, (size_t)kid_count, sizeof sorted[0], by_name);
    printf(alive ? "up" : "gave-up");
    for (int i = 0; alive && i < kid_count; i++)
        if (__atomic_load_n(&sorted[i]->up, __ATOMIC_RELAXED))
            printf(" %s", sorted[i]->name);
    printf("\n");
}

static void run_schedule(coir_runtime *rt, char **word)
{
    coir_counter end = COIR_COUNTER_INIT;
    coir_supervisor *s;
    int alive = 1;

    kid_count = 0;
    log_text[0] = '\0';
    atomic_store_explicit(&fake_now, 1000 * COIR_SEC, memory_order_relaxed); /* see above */
    s = open_with(rt, word, &end);
    print_log();
    for (word += 4; alive && *word; word++) {
        printf(" | ");
        step(rt, s, *word);
        alive = settle(s, &end);
        print_log();
    }
    printf(" | ");
    print_up(alive);
    CHECK_EQ(coir_supervisor_close(s, -1, NULL), COIR_OK);
    CHECK_EQ(coir_wait(&end), alive ? COIR_DONE : COIR_PANICKED);
}

#define WORDS 256

static void schedules_of_standard_input_run(void)
{
    coir_runtime *rt = run_open(2);
    char line[4096], *word[WORDS + 1], *rest;

    while (fgets(line, sizeof line, stdin)) {
        int n = 0;

        for (char *w = strtok_r(line, " \n", &rest); w && n < WORDS; w = strtok_r(NULL, " \n", &rest))
            word[n++] = w;
        word[n] = NULL;
        run_schedule(rt, word);
    }
    run_close(rt);
}

CHECK_MAIN(CASE(schedules_of_standard_input_run))
