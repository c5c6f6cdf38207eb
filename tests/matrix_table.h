/* SPDX-License-Identifier: MIT */
/*
 * matrix_table.h - the propagation matrix: where something broke, and who is told how.
 *
 *   ROW(function, "where it broke", "what broke", "the waiter", "others", "the process")
 *
 *   the waiter   of the broken job's counter saw: outcome, and kind and location of the record
 *   others       a waiter one level up, a peer at a lock or channel, the caller of coir_try, ...
 *   the process  "lives", or the signal it dies by and the first line of the report; * is any text
 *
 * Names of statuses and outcomes are without COIR_. matrix.h says how a function is written; no
 * include guard, for it is read more than once.
 */

/* Jobs. */
ROW(job_panics, "job", "panics", "PANICKED, panic at job", "waiting fiber PANICKED", "lives")
ROW(job_fails_a_requirement, "job", "coir_require", "PANICKED, panic at job", "", "lives")
ROW(job_says_it_failed, "job", "coir_fail", "FAILED, fail at job", "its code arrives", "lives")
ROW(first_job, "first job of coir_run", "panics", "", "coir_run PANICKED", "lives")
ROW(one_of_many_jobs, "one job of many", "panics", "PANICKED, panic at job", "the others run", "lives")
ROW(job_of_any_counter, "job", "panics, wait for any", "PANICKED, panic at job", "coir_wait_any PANICKED", "lives")
ROW(nested_job, "nested job", "panics", "DONE", "parent PANICKED", "lives")
ROW(nested_job_passed_on, "nested job", "panics, parent passes on", "PANICKED, panic at job", "parent PANICKED", "lives")
ROW(job_in_place, "job in place", "panics in its waiter's stack", "DONE", "waiter PANICKED", "lives")
ROW(job_in_its_submitter, "job in its submitter", "panics (domain full)", "PANICKED, panic at job", "submit OK", "lives")
ROW(job_inside_try, "coir_try in a job", "panics", "DONE", "try PANICKED, job goes on", "lives")
ROW(job_nobody_waits_for, "job without counter", "panics", "", "stats.unobserved 1", "lives")
ROW(parent_of_blocked_child, "parent", "panics, child sleeps", "PANICKED, panic at job", "child's sleep ECANCELED", "lives")
ROW(parent_of_io_waiter, "parent", "panics, child in recv", "PANICKED, panic at job", "child's recv ECANCELED", "lives")
ROW(job_returns_owing, "job", "returns while owed", "PANICKED, owed at job", "child's sleep ECANCELED", "lives")
ROW(job_returns_holding, "job", "returns with a mutex", "PANICKED, held at job", "lock EPOISONED", "lives")
ROW(job_waits_for_itself, "job", "waits for its own end", "DONE", "its wait EDEADLK", "lives")
ROW(jobs_in_a_circle, "job", "waits in a circle, FAIL_NEWEST", "DONE", "its wait EDEADLK, the other's DONE", "lives")
ROW(job_after_a_broken_one, "job after another", "the other panics", "CANCELED, dependency at scheduler", "other PANICKED", "lives")
ROW(unit_by_hand, "unit held by hand", "released as PANICKED", "PANICKED, done at thread", "", "lives")

/* Jobs that are not run, or asked to stop. */
ROW(job_expired, "job", "its deadline passed", "EXPIRED, expired at scheduler", "", "lives")
ROW(job_canceled_unstarted, "job", "canceled, not started", "CANCELED, skipped at scheduler", "", "lives")
ROW(job_canceled_blocked, "job", "canceled, blocked", "DONE", "its sleep ECANCELED", "lives")
ROW(job_of_canceled_domain, "job of a canceled domain", "not started", "CANCELED, skipped at scheduler", "blocked job ECANCELED, submit ECANCELED", "lives")
ROW(job_of_tripped_domain, "job of a tripped domain", "a job before it panicked", "CANCELED, skipped at scheduler", "sibling domain DONE", "lives")

/* Two at once. */
ROW(two_children_panic, "two jobs of a counter", "both panic", "PANICKED, panic at job", "both are kept", "lives")
ROW(parent_and_child_panic, "parent and child", "both panic", "PANICKED, panic at job", "both are kept", "lives")
ROW(panic_in_two_runtimes, "job", "panics in another runtime", "PANICKED, panic at job", "fiber here PANICKED", "lives")
ROW(panic_inside_cleanup, "coir_try in a cleanup", "panics during a panic", "PANICKED, panic at job", "try PANICKED at cleanup", "lives")
ROW(panic_while_unwinding, "cleanup of a panic", "panics", "", "", "SIGABRT: coir: fatal: panic while an earlier one unwinds: tests/matrix_dying.c:*: second")

/* What runs when something ends. */
ROW(defer_handler, "defer handler", "panics", "PANICKED, panic at defer", "other handler runs", "lives")
ROW(defer_handler_after_panic, "defer handler", "panics after a panic", "PANICKED, panic at job", "both are kept", "lives")
ROW(local_destructor, "destroy of a job's value", "panics", "PANICKED, panic at defer", "", "lives")
ROW(local_destructor_after_fail, "destroy of a job's value", "panics after coir_fail", "PANICKED, panic at defer", "", "lives")
ROW(local_destructor_fails, "destroy of a job's value", "coir_fail", "FAILED, fail at defer", "", "lives")
ROW(finalizer, "finalizer (domain)", "panics", "DONE", "close OK, 1 of 2 finalizers panicked", "lives")

/* Time, I/O, other threads. */
ROW(sleeper, "timer", "woken sleeper panics", "PANICKED, panic at job", "resumed 1", "lives")
ROW(waiter_with_deadline, "timer", "wait times out, then panics", "PANICKED, panic at job", "its wait ETIMEDOUT", "lives")
ROW(io_waiter, "I/O waiter (poller)", "panics when woken", "PANICKED, panic at job", "peer reads the end", "lives")
ROW(offloaded_call, "offloaded call", "panics", "DONE", "offload PANICKED, kept at offload", "lives")
ROW(signal_waiter, "coir_signal_wait", "panics when woken", "PANICKED, panic at job", "next signal arrives", "lives")

/* What the broken job held. */
ROW(mutex_holder, "mutex holder", "panics", "PANICKED, panic at job", "lock EPOISONED", "lives")
ROW(mutex_holder_with_defer, "mutex holder", "panics, handler unlocks", "PANICKED, panic at job", "lock EPOISONED", "lives")
ROW(mutex_holder_policy_abort, "mutex holder", "panics, policy ABORT", "", "", "SIGABRT: coir: fatal: a job panicked while it held mutex 0x*, whose policy is to abort")
ROW(cond_signaler, "condition's signaler", "panics with the mutex", "PANICKED, panic at job", "cond wait EPOISONED", "lives")
ROW(rwlock_writer, "rwlock writer", "panics", "PANICKED, panic at job", "read EPOISONED", "lives")
ROW(rwlock_reader, "rwlock reader", "panics", "PANICKED, panic at job", "write OK", "lives")
ROW(semaphore_holder, "semaphore holder", "panics", "PANICKED, panic at job", "acquire ETIMEDOUT", "lives")
ROW(semaphore_holder_with_defer, "semaphore holder", "panics, handler releases", "PANICKED, panic at job", "acquire OK", "lives")
ROW(event_setter, "event setter", "panics, handler sets", "PANICKED, panic at job", "wait OK", "lives")
ROW(channel_sender, "channel sender", "panics, handler closes", "PANICKED, panic at job", "recv OK, recv ECLOSED", "lives")
ROW(channel_receiver, "channel receiver", "panics, handler closes", "PANICKED, panic at job", "send ECLOSED", "lives")
ROW(channel_in_select, "channel sender", "panics, handler closes", "PANICKED, panic at job", "select OK, select ECLOSED", "lives")
ROW(once_initialiser, "once initialiser", "panics", "DONE", "call, waiting call and later call EPOISONED", "lives")
ROW(obligation_holder, "obligation holder", "panics", "PANICKED, panic at job", "leaked 1, discharge ENOENT", "lives")
ROW(cell_publisher, "cell publisher", "panics before it publishes", "PANICKED, panic at job", "reader has the old version", "lives")

/* The host. */
ROW(thread_inside_try, "host thread, in coir_try", "panics", "PANICKED, panic at thread", "", "lives")
ROW(thread_outside, "host thread", "panics outside any boundary", "", "", "SIGABRT: coir: fatal: panic outside any boundary: tests/matrix_dying.c:*: planned")
ROW(start_hook_panics, "worker start hook", "panics", "", "", "SIGABRT: coir: fatal: panic outside any boundary: tests/matrix_dying.c:*: in a hook")
ROW(panic_hook_panics, "panic hook", "panics", "", "", "SIGABRT: coir: fatal: panic in the panic hook: tests/matrix_dying.c:*: in a hook")
ROW(panic_hook_suspends, "panic hook", "suspends", "", "", "SIGABRT: coir: fatal: the panic hook must not suspend")
ROW(metrics_callback_panics, "metrics callback", "panics", "", "", "SIGABRT: coir: fatal: panic in the metrics callback \"completed\": tests/matrix_dying.c:*: in a hook")
ROW(metrics_callback_suspends, "metrics callback", "suspends", "", "", "SIGABRT: coir: fatal: the metrics callback \"completed\" must not suspend")
ROW(log_callback_panics, "log callback", "panics", "", "", "SIGABRT: coir: fatal: panic in the log callback: tests/matrix_dying.c:*: in a hook")
ROW(log_callback_suspends, "log callback", "suspends", "", "", "SIGABRT: coir: fatal: the log callback must not suspend")
ROW(signal_handler_panics, "signal handler", "panics", "", "", "SIGABRT: coir: fatal: panic in a signal handler*: tests/matrix_dying.c:*: in a handler")
ROW(job_ends_its_thread, "job", "pthread_exit", "", "", "SIGABRT: coir: fatal: a thread is being ended (pthread_exit or pthread_cancel) through a job")
ROW(rust_panic, "job", "Rust panic", "", "", "SIGABRT: coir: fatal: a Rust panic reached a job's boundary: catch it with catch_unwind at the edge")
ROW(broken_invariant, "coir itself", "broken invariant", "", "", "SIGABRT: coir: fatal: tests/matrix_dying.c:*: broken invariant: 1 + 1 == 3")

/* Policies. */
ROW(panic_policy_abort, "job", "panics, options.panic ABORT", "", "", "SIGABRT: coir: fatal: a panic aborts (options.panic): tests/matrix_dying.c:*: planned")
ROW(defer_policy_abort, "defer handler", "panics, defer_panic ABORT", "", "", "SIGABRT: coir: fatal: a panic aborts (options.defer_panic): tests/matrix_dying.c:*: planned")
ROW(try_under_abort, "coir_try in a job", "options.panic ABORT", "DONE", "try EPOLICY, not called", "lives")

/* Closing. */
ROW(panic_during_drain, "panic during drain", "job of a closing runtime", "PANICKED, panic at job", "close OK, receipt: 1 panicked", "lives")
ROW(panic_when_canceled, "panic past the budget", "canceled job panics", "PANICKED, panic at job", "its sleep ECANCELED, close OK", "lives")
ROW(panic_in_closing_domain, "panic during drain", "job of a closing domain", "PANICKED, panic at job", "close OK, receipt: 1 panicked", "lives")
ROW(job_dropped_at_close, "queued job", "its runtime closes", "CANCELED, shutdown at scheduler", "", "lives")
ROW(job_that_does_not_end, "job", "never ends, runtime closes", "DONE", "close ETIMEDOUT, waiter ECANCELED, again DONE", "lives")

/* Faults. */
ROW(overflow_contained, "job", "stack overflow, CONTAIN", "PANICKED, overflow at job", "handler runs, next job DONE", "lives")
ROW(segv_contained, "job", "SIGSEGV, contained", "PANICKED, fault at job", "handler runs, next job DONE", "lives")
ROW(ill_contained, "job", "SIGILL, contained", "PANICKED, fault at job", "handler runs, next job DONE", "lives")
ROW(abort_contained, "job", "abort(), contained", "PANICKED, fault at job", "handler runs, next job DONE", "lives")
ROW(segv_in_mutex_holder, "mutex holder", "SIGSEGV, contained", "PANICKED, fault at job", "lock EPOISONED", "lives")
ROW(overflow_reported, "job", "stack overflow, REPORT", "", "", "SIGABRT: coir: stack overflow: fiber * on worker 0, job *, 1 jobs deep")
ROW(overflow_in_foreign_code, "job", "stack overflow in qsort", "", "", "SIGABRT: coir: stack overflow: fiber *; not contained: * is not registered as containable")
ROW(segv_plain, "job", "SIGSEGV", "", "", "SIGSEGV, no report")
ROW(segv_on_host_thread, "host thread", "SIGSEGV, contained in jobs", "", "", "SIGSEGV, no report")
ROW(abort_plain, "job", "abort()", "", "", "SIGABRT, no report")

/* C++. */
ROW(cxx_job_throws, "C++ job", "throws", "PANICKED, foreign at job", "destructor ran", "lives")
ROW(cxx_destructors, "C++ job", "panics through destructors", "PANICKED, panic at job", "destructor ran", "lives")
ROW(cxx_catch_all, "C++ job", "catch (...) swallows a panic", "DONE", "stats.swallowed 1", "lives")
ROW(cxx_defer_handler_throws, "C++ defer handler", "throws", "PANICKED, foreign at defer", "", "lives")
ROW(cxx_offload_throws, "C++ offloaded call", "throws", "DONE", "offload PANICKED, kept at offload", "lives")
ROW(cxx_noexcept, "noexcept frame", "panics", "", "", "SIGABRT: coir: fatal: a noexcept frame is in the way of a panic: *")
ROW(cxx_destructor_panics, "C++ destructor", "panics during a throw", "", "", "SIGABRT: coir: fatal: panic while an earlier one unwinds: tests/matrix_cxx.cc:*: in a destructor")
ROW(cxx_hook_throws, "panic hook", "throws", "", "", "SIGABRT: coir: fatal: an exception left the panic hook: ?:0: C++ exception of type int")
