/* SPDX-License-Identifier: MIT */
/*
 * arch_personality.c - coir_personality as small as it can be, so that arch_test.c needs nothing of
 * core/: every exception ends at the innermost boundary. Likewise coir_landed.
 */
#include "arch.h"

#include <unwind.h>

_Unwind_Reason_Code coir_personality(int version, _Unwind_Action actions,
                                     _Unwind_Exception_Class class,
                                     struct _Unwind_Exception *exception,
                                     struct _Unwind_Context *context);

void *coir_landed(void *passed);

void *coir_landed(void *passed)
{
    return passed;
}

_Unwind_Reason_Code coir_personality(int version, _Unwind_Action actions,
                                     _Unwind_Exception_Class class,
                                     struct _Unwind_Exception *exception,
                                     struct _Unwind_Context *context)
{
    (void)version;
    (void)class;
    if (actions & _UA_SEARCH_PHASE)
        return _URC_HANDLER_FOUND;
    _Unwind_SetGR(context, ARCH_EXC_REG, (_Unwind_Word)exception);
    _Unwind_SetIP(context, (_Unwind_Ptr)arch_boundary_landing);
    return _URC_INSTALL_CONTEXT;
}
