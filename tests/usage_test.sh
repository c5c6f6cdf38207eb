#!/bin/bash
# SPDX-License-Identifier: MIT
#
# usage_test - what every tool and every test program owes its user: --help on standard output and
# status 0; one line that names an unknown option and status 2; the names of a test's cases.
# Needs build/bin; compiles a test program of its own.

set -u
cd "$(dirname "$0")/.." || exit 1

passed=0
failed=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# check NAME COMMAND...: a case; says so if it fails.
check()
{
    local name=$1
    shift
    if "$@" > "$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        sed 's/^/    /' "$work/log"
    fi
}

# run COMMAND...: leaves its output in $out and $err, its exit status in $status.
run()
{
    status=0
    timeout 60 "$@" > "$work/out" 2> "$work/err" < /dev/null || status=$?
    out=$(< "$work/out")
    err=$(< "$work/err")
    printf '%s\n' "$* -> $status" "$out" "$err"
}

helps()
{
    run "$1" --help
    [[ $status == 0 && -z $err && $out == "usage: "*"${1##*/}"*$'\n'* ]]
}

names_an_unknown_option()
{
    run "$1" --nosuch
    [[ $status == 2 && -z $out && $err == *"${1##*/}"*--nosuch* && $err != *$'\n'* ]]
}

# ------------------------------------------------------------------------------- test programs

compile_program()
{
    cat > "$work/program.c" << 'END'
#include "check.h"
static void holds(void) { CHECK(1); }
static void breaks(void) { CHECK_EQ(1, 2); }
CHECK_MAIN(CASE(holds), CASE(breaks))
END
    gcc -Itests "$work/program.c" -o "$work/program"
}

a_named_case_runs_alone()
{
    run "$work/program" holds
    [[ $status == 0 && $out == '1 passed, 0 failed' && -z $err ]]
}

a_failed_case_is_shown()
{
    run "$work/program"
    [[ $status == 1 && $out == '1 passed, 1 failed' && $err == *'breaks: not true: 1 == 2'* ]]
}

an_unknown_case_runs_nothing_and_lists_the_known()
{
    run "$work/program" holds nosuch
    [[ $status == 2 && -z $out && $err == *'no such case: nosuch'*holds*breaks* ]]
}

for tool in tools/demo tools/test tools/deps tools/install tools/perf tools/soak tools/trust tools/lint.py build/bin/coir-kv build/bin/coir-load; do
    check "$tool --help" helps "$tool"
    check "$tool --nosuch" names_an_unknown_option "$tool"
done
check "a test program compiles" compile_program
check "a named case runs alone" a_named_case_runs_alone
check "a failed case is shown" a_failed_case_is_shown
check "an unknown case runs nothing and lists the known" an_unknown_case_runs_nothing_and_lists_the_known
echo "$passed passed, $failed failed"
((failed == 0))
