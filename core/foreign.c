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

extern void *__cxa_begin_catch(void *exception) __attribute__((weak));
extern void __cxa_end_catch(void) __attribute__((weak));
extern void *__cxa_current_exception_type(void) __attribute__((weak));
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

static void name_type(char *message, size_t bytes)
{
    const struct type_info *type =
        __cxa_current_exception_type ? __cxa_current_exception_type() : NULL;
    char *plain = type && __cxa_demangle ? __cxa_demangle(type->name, NULL, NULL, NULL) : NULL;

    snprintf(message, bytes, "C++ exception of type %s", plain ? plain : type ? type->name : "unknown");
    free(plain);
}

/* Beginning and ending a catch keeps the C++ runtime's count of uncaught exceptions right, where
 * deleting the object would let it drift. */
void foreign_end(struct _Unwind_Exception *e, char *message, size_t bytes)
{
    uint64_t class = e->exception_class & ~CLASS_VARIANT;

    if ((class == CLASS_CXX || class == CLASS_CXX_CLANG) && __cxa_begin_catch && __cxa_end_catch) {
        __cxa_begin_catch(e);
        name_type(message, bytes);
        __cxa_end_catch();
        return;
    }
    snprintf(message, bytes, "foreign exception of class 0x%016llx",
             (unsigned long long)e->exception_class);
    _Unwind_DeleteException(e);
}
