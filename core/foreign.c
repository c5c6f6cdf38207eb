/* SPDX-License-Identifier: MIT */
/*
 * foreign.c - C++ exceptions, and those of languages nobody here knows.
 *
 * The C++ runtime is used if the process has one (weak symbols); the library does not link it.
 */
#include "foreign.h"

#include <stdio.h>
#include <stdlib.h>

#define CLASS_RUST UINT64_C(0x4d4f5a0052555354)      /* "MOZ\0RUST" */
#define CLASS_CXX UINT64_C(0x474e5543432b2b00)       /* "GNUCC++\0" */
#define CLASS_CXX_CLANG UINT64_C(0x434c4e47432b2b00) /* "CLNGC++\0" */
#define CLASS_VARIANT UINT64_C(0xff)                 /* a dependent exception: same language */
#define CXX_HEADER_BYTES 80 /* of a C++ exception's own header, before the unwinder's */
#define CLANG_HEADER_BYTES 96 /* two words more at its beginning, where lists lead to; all else is alike */
#define NEXT_CAUGHT_BYTES 48  /* before the unwinder's: what was being handled already */

extern void *__cxa_begin_catch(void *exception) __attribute__((weak));
extern void __cxa_end_catch(void) __attribute__((weak));
extern char *__cxa_demangle(const char *name, char *buffer, size_t *length, int *status)
    __attribute__((weak));

/* std::type_info as every compiler of the Itanium C++ ABI lays it out (2.9.3). */
struct type_info {
    void *vtable;
    const char *name;
};

bool foreign_is_untouchable(uint64_t class)
{
    return class == CLASS_RUST; /* dropping one in foreign code is undefined there */
}

/* The type is the first word of the C++ header (Itanium C++ ABI, 2.2.1). In a dependent exception (made by
 * rethrow_exception) GNU's has the thrown object there, which follows the headers of its own. */
static const struct type_info *type_of(const struct _Unwind_Exception *e)
{
    const char *header = (const char *)e - CXX_HEADER_BYTES;

    if (e->exception_class == (CLASS_CXX | 1))
        header = *(const char *const *)header - sizeof *e - CXX_HEADER_BYTES;
    return *(const struct type_info *const *)header;
}

static void name_type(const struct type_info *type, char *message, size_t bytes)
{
    const char *name = type->name + (type->name[0] == '*'); /* a mark of types local to a file */
    char *plain = __cxa_demangle ? __cxa_demangle(name, NULL, NULL, NULL) : NULL;

    snprintf(message, bytes, "C++ exception of type %s", plain ? plain : name);
    free(plain);
}

static bool is_cxx(const struct _Unwind_Exception *e)
{
    uint64_t class = e->exception_class & ~CLASS_VARIANT;

    return class == CLASS_CXX || class == CLASS_CXX_CLANG;
}

void foreign_name(const struct _Unwind_Exception *e, char *message, size_t bytes)
{
    if (is_cxx(e))
        name_type(type_of(e), message, bytes);
    else
        snprintf(message, bytes, "foreign exception of class 0x%016llx",
                 (unsigned long long)e->exception_class);
}

static uint64_t class_at(const char *e)
{
    return ((const struct _Unwind_Exception *)e)->exception_class & ~CLASS_VARIANT;
}

/* Only C++'s own lead on: others are not caught while C++ handles one. */
static void **next_caught(char *header)
{
    if (class_at(header + CXX_HEADER_BYTES) == CLASS_CXX)
        return (void **)(header + CXX_HEADER_BYTES - NEXT_CAUGHT_BYTES);
    if (class_at(header + CLANG_HEADER_BYTES) == CLASS_CXX_CLANG)
        return (void **)(header + CLANG_HEADER_BYTES - NEXT_CAUGHT_BYTES);
    return NULL;
}

bool foreign_take_caught(void **caught, const void *at, size_t bytes)
{
    while (caught && *caught && (uintptr_t)*caught - (uintptr_t)at >= bytes)
        caught = next_caught(*caught);
    if (!caught || !*caught)
        return false;
    *caught = NULL;
    return true;
}

/* Beginning and ending a catch keeps the C++ runtime's count of uncaught exceptions right, where
 * deleting the object would let it drift. */
void foreign_end(struct _Unwind_Exception *e)
{
    if (is_cxx(e) && __cxa_begin_catch && __cxa_end_catch) {
        __cxa_begin_catch(e);
        __cxa_end_catch();
    } else {
        _Unwind_DeleteException(e);
    }
}
