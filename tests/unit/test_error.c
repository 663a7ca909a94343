/* Faults as they are told. */

#include <criterion/criterion.h>

#include "trilith/error.h"

Test(error, fault_can_stand_in_quotes)
{
    struct tl_fault fault;
    tl_fault_set(&fault, "/data/\"a\"\n", 1, 7, "not empty (\"%s\")", "b\tc");
    cr_assert_str_eq(fault.file, "/data/'a'?");
    cr_assert_str_eq(fault.reason, "not empty ('b?c')");
    cr_assert_eq(fault.group, 1);
    cr_assert_eq(fault.index, 7);
}

Test(error, fault_that_nobody_wants_is_not_set)
{
    tl_fault_set(NULL, "file", 0, 0, "reason");
}
