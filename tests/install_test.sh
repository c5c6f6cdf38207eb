#!/bin/bash
# SPDX-License-Identifier: MIT
#
# install_test - tools/install, and the program of README.md built against what it has installed,
# with pkg-config, from C and from C++, with either library; one with AddressSanitizer, which the libraries are built
# without; what the libraries show to a program.

set -u
cd "$(dirname "$0")/.." || exit 1

passed=0
failed=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
prefix=$work/coir
so=$prefix/lib/libcoir.so.0
archive=$prefix/lib/libcoir.a
export LC_ALL=C

# check NAME COMMAND...: a case; shows the command's output if it fails.
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

# Fails unless two texts are equal.
same()
{
    diff <(echo "$1") <(echo "$2")
}

not()
{
    ! "$@"
}

# Fails, and shows it, if there is anything on standard input.
nothing()
{
    ! grep .
}

# ------------------------------------------------------------------------------ what is installed

installed_files_are_those_it_says()
{
    local version said
    said=$(tools/install --prefix "$prefix") || return 1
    version=$(pkg-config --modversion coir)
    same "$(sed "s| -> .*||; s|^$prefix/||" <<< "$said" | sort)" \
        "$(cd "$prefix" && find . ! -type d -printf '%P\n' | sort)" &&
        same "$(cd "$prefix" && find . ! -type d -printf '%P %l\n' | sort)" \
            "$(printf '%s\n' 'include/coir.h ' 'lib/libcoir-debug.a ' 'lib/libcoir.a ' "lib/libcoir.so libcoir.so.0" \
                "lib/libcoir.so.0 libcoir.so.$version" "lib/libcoir.so.$version " \
                'lib/pkgconfig/coir.pc ')" &&
        same "$version" "$(awk '/define COIR_VERSION_/ { v = v s $3; s = "." } END { print v }' \
            include/coir.h)"
}

pc_names_the_prefix_and_no_other_place()
{
    same "$(pkg-config --variable=prefix coir)" "$prefix" &&
        same "$(pkg-config --cflags --libs coir | xargs)" "-I$prefix/include -L$prefix/lib -lcoir" &&
        nothing < <(sed "s|$prefix|PREFIX|" "$prefix/lib/pkgconfig/coir.pc" | grep -n "$PWD\|build")
}

destdir_stands_before_the_prefix_and_nowhere_else()
{
    tools/install --destdir="$work/stage" --prefix=/opt/coir || return 1
    (cd "$work" && "$OLDPWD/tools/install" --destdir relative --prefix /opt/coir/) || return 1
    diff -r "$work/stage" "$work/relative" &&
        same "$(sed -n 's/^prefix=//p' "$work/stage/opt/coir/lib/pkgconfig/coir.pc")" /opt/coir &&
        same "$(find "$work/stage" -mindepth 1 -maxdepth 2 -printf '%P ')" "opt opt/coir "
}

an_installation_can_be_repeated()
{
    local before after
    before=$(cd "$prefix" && find . -type f -exec cksum {} + | sort)
    tools/install --prefix "$prefix" || return 1
    after=$(cd "$prefix" && find . -type f -exec cksum {} + | sort)
    same "$before" "$after"
}

# refused STATUS WORD ARGUMENT...: one line that holds the word, the status, and nothing written.
refused()
{
    local status=0 expected=$1 word=$2 said
    shift 2
    said=$(cd "$work" && "$OLDPWD/tools/install" "$@" 2>&1) || status=$?
    echo "tools/install $* said, with status $status:"
    echo "$said"
    [[ $status == "$expected" && $said == "tools/install: "*"$word"* && $said != *$'\n'* ]] &&
        same "$(ls "$work")" "$before"
}

bad_arguments_give_one_line_each()
{
    local before
    touch "$work/file"
    before=$(ls "$work")
    refused 2 --nosuch --nosuch &&
        refused 2 surplus surplus &&
        refused 2 --prefix --prefix &&
        refused 2 --destdir --destdir= &&
        refused 2 absolute --prefix usr &&
        refused 2 character --prefix "/opt/two words" &&
        refused 2 character --prefix '/opt/a;b' &&
        refused 1 "cannot write" --prefix "$work/file/coir"
}

# ------------------------------------------------------------------------------- README's program

# What the program of README.md prints: its panic comes as a line of its own and names the place.
runs_as_readme_says()
{
    local said place
    place="$1:$(grep -n 'not feeling well' "$1" | cut -d: -f1): job 3 is not feeling well"
    said=$(timeout 60 "${@:2}") || return 1
    same "$(sort <<< "$said")" "$(printf '%s\n' "$place" 'job 1 ran' 'job 2 ran' 'job 4 ran' | sort)"
}

# builds_and_runs COMPILER SOURCE OPTION...: compiled without a warning, run.
builds_and_runs()
{
    local compiler=$1 source=$2
    shift 2
    rm -f "$work/hello"
    "$compiler" -Wall -Wextra -Werror "$source" "$@" -o "$work/hello" &&
        runs_as_readme_says "$source" env LD_LIBRARY_PATH="$prefix/lib" "$work/hello"
}

flags()
{
    pkg-config --cflags --libs "$@" coir
}

uses_the_shared_library()
{
    readelf -d "$work/hello" | grep 'NEEDED.*libcoir\.so\.0'
}

readme_has_a_program()
{
    awk '/^```c$/ && !n { p = n = 1; next } /^```$/ { p = 0 } p' README.md > "$work/hello.c"
    cp "$work/hello.c" "$work/hello.cc"
    grep -q coir_spawn "$work/hello.c"
}

# programs COMPILER SOURCE STANDARD: the program with each library, of each tree.
# shellcheck disable=SC2046 # flags are several arguments
programs()
{
    local name="README's program, $1"
    check "$name, shared" builds_and_runs "$@" $(flags)
    check "$name, shared, needs the library at run time" uses_the_shared_library
    check "$name, static" builds_and_runs "$@" -static $(flags --static)
    check "$name, in the build tree" builds_and_runs "$@" $(PKG_CONFIG_PATH=build flags --static)
    check "$name, in the build tree, needs no library at run time" not uses_the_shared_library
}

# --------------------------------------------------------------------- programs with AddressSanitizer

# asan_user STATUS WAY: runs it.
asan_user()
{
    local status=0
    LD_LIBRARY_PATH=$prefix/lib ASAN_OPTIONS=detect_stack_use_after_return=${uar:-0} \
        timeout 120 "$work/asan_user" "$2" > "$work/said" 2>&1 || status=$?
    head -n 40 "$work/said"
    ((status == $1))
}

nothing_is_reported()
{
    asan_user 0 right && same "$(< "$work/said")" fine &&
        uar=1 asan_user 0 right && same "$(< "$work/said")" fine
}

an_overrun_is_found_with_its_variable()
{
    asan_user 1 overruns || return 1
    grep 'ERROR: AddressSanitizer: stack-buffer-overflow' "$work/said" && grep "'planted'.*overflows this" "$work/said"
}

what_parked_jobs_hold_is_no_leak()
{
    asan_user 1 leaks || return 1
    same "$(grep SUMMARY "$work/said")" "SUMMARY: AddressSanitizer: 12345 byte(s) leaked in 1 allocation(s)."
}

# with_asan COMPILER LANGUAGE LEVEL FLAG...: the program, linked by these flags.
with_asan()
{
    local name="a program with ASan by $1 $3"
    rm -f "$work/asan_user"
    check "$name is built" "$1" -x "$2" "$3" -g -Wall -Wextra -Werror -fexceptions -fsanitize=address \
        tests/asan_user.c -x none "${@:4}" -o "$work/asan_user"
    check "$name: nothing is reported" nothing_is_reported
    check "$name: an overrun is found" an_overrun_is_found_with_its_variable
    check "$name: what parked jobs hold is no leak" what_parked_jobs_hold_is_no_leak
}

# shellcheck disable=SC2086 # flags are several arguments
programs_with_asan()
{
    local cc cxx shared static
    shared=$(flags)
    static=$(flags --static | sed 's/-lcoir/-l:libcoir.a/')
    for cc in gcc clang; do
        cxx=${cc/%gcc/g}++
        with_asan $cc c -O0 $shared
        with_asan $cxx c++ -O2 $shared
        with_asan $cc c -O2 $static
        with_asan $cxx c++ -O0 $static
    done
}

# ---------------------------------------------------------------------- what the libraries show

header_stands_alone()
{
    echo '#include <coir.h>' > "$work/header.c"
    local strict=(-pedantic -Wall -Wextra -Wconversion -Werror -fsyntax-only "-I$prefix/include")
    gcc -std=c11 "${strict[@]}" "$work/header.c" &&
        g++ -std=c++11 "${strict[@]}" -x c++ "$work/header.c"
}

# Names of the functions that coir.h declares.
declared()
{
    gcc -E -P "-I$prefix/include" -x c - <<< '#include <coir.h>' |
        tr '\n' ' ' | grep -o 'visibility("default")[^;]*;' |
        sed 's/__attribute__((.*)) *[a-z]//' | grep -o 'coir_[a-z_0-9]*(' | tr -d '(' | sort -u
}

shared_library_shows_what_the_header_declares()
{
    same "$(nm -D --defined-only --with-symbol-versions "$so" | awk '$2 != "A" { print $3 }' | sort)" \
        "$(declared | sed 's/$/@@COIR_0/')"
}

archive_shows_what_the_header_declares()
{
    same "$(nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort)" "$(declared)"
}

shared_library_is_hardened()
{
    local dynamic segments
    dynamic=$(readelf -dW "$so")
    segments=$(readelf -lW "$so")
    grep 'SONAME.*\[libcoir\.so\.0\]' <<< "$dynamic" &&
        grep 'BIND_NOW' <<< "$dynamic" &&
        nothing < <(grep 'TEXTREL\|RPATH\|RUNPATH' <<< "$dynamic") &&
        grep 'GNU_RELRO' <<< "$segments" &&
        grep 'GNU_STACK.* RW ' <<< "$segments" &&
        nothing < <(grep 'LOAD.* RWE ' <<< "$segments")
}

archive_asks_for_no_executable_stack()
{
    nothing < <(readelf -SW "$archive" | grep 'GNU-stack.* X ') &&
        readelf -SW "$archive" | grep 'GNU-stack'
}

# Debuggers find the sources from the root of the tree, wherever that is.
libraries_name_no_path_of_this_machine()
{
    local listed
    nothing < <(grep -alF "$(pwd -P)" "$so" "$archive") || return 1
    listed=$(gdb -nx -batch -ex 'list *arch_switch' -ex 'list coir_open' "$so" 2>&1)
    echo "$listed"
    [[ $listed == *'is at arch/'*'mov '*'int coir_open('* ]]
}

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
check "installed files are those it says" installed_files_are_those_it_says
check "coir.pc names the prefix and no other place" pc_names_the_prefix_and_no_other_place
check "--destdir stands before the prefix" destdir_stands_before_the_prefix_and_nowhere_else
check "an installation can be repeated" an_installation_can_be_repeated
check "bad arguments give one line each" bad_arguments_give_one_line_each
check "README.md has a program" readme_has_a_program
programs gcc "$work/hello.c" -std=c11
programs g++ "$work/hello.cc" -std=c++17
programs_with_asan
check "coir.h stands alone, in C and in C++" header_stands_alone
check "the shared library shows what coir.h declares" shared_library_shows_what_the_header_declares
check "the archive shows what coir.h declares" archive_shows_what_the_header_declares
check "the shared library is hardened" shared_library_is_hardened
check "the archive asks for no executable stack" archive_asks_for_no_executable_stack
check "the libraries name no path of this machine" libraries_name_no_path_of_this_machine
echo "$passed passed, $failed failed"
((failed == 0))
