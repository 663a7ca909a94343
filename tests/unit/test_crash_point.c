/* crash_point: what is promised in crash_point.h. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "trilith/crash_point.h"

static const char *last_name = "";

static void note(const char *name)
{
    last_name = name;
}

Test(crash_point, hook_is_told_the_name)
{
    CRASH_POINT("nobody-looks");
    crash_point_hook = note;
    CRASH_POINT("here");
    cr_assert_str_eq(last_name, "here");
}

Test(crash_point, armed_point_kills, .signal = SIGKILL)
{
    cr_assert(crash_point_arm("this"));
    CRASH_POINT("that");
    CRASH_POINT("this");
}

Test(crash_point, armed_point_kills_at_the_nth_pass, .signal = SIGKILL)
{
    cr_assert(crash_point_arm("this:3"));
    CRASH_POINT("this");
    CRASH_POINT("this");
    last_name = "passed twice";
    CRASH_POINT("this");
}

Test(crash_point, armed_point_lets_other_passes_through)
{
    cr_assert(crash_point_arm("this:3"));
    CRASH_POINT("this");
    CRASH_POINT("this");
    CRASH_POINT("thi");
    CRASH_POINT("this-one");
}

Test(crash_point, malformed_texts_are_refused)
{
    char long_name[CRASH_POINT_NAME_BYTES_MAX + 1];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const char *texts[] = {"", ":1", "name:0", "name:x", "name:1x", long_name};
    for (size_t i = 0; i < TL_COUNT_OF(texts); i++) {
        cr_assert_not(crash_point_arm(texts[i]), "\"%s\"", texts[i]);
    }
    cr_assert_null(crash_point_hook);
}
