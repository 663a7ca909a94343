/* Event lines of a program that ends by an assertion. */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trilith/log.h"

/* What a child that fails an assertion writes to its standard error. */
static void die(bool is_json, char *out_text, size_t text_bytes)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)dup2(fds[1], STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        log_configure(is_json, LOG_LEVEL_INFO, "a:1");
        tl_assert_failed("strcmp(at, \"x\") == 0", "file.c", 7, "work");
    }
    (void)close(fds[1]);
    ssize_t count = read(fds[0], out_text, text_bytes - 1);
    cr_assert_gt(count, 0);
    out_text[count] = '\0';
    (void)close(fds[0]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status));
    cr_assert_eq(WTERMSIG(status), SIGABRT);
}

Test(log, a_failed_assertion_is_an_event_like_others)
{
    char text[1024];
    die(false, text, sizeof text);
    cr_assert_not_null(strstr(text, " level=error event=assertion_failed node=a:1 at=file.c:7 "
                                    "function=work condition=\"strcmp(at, 'x') == 0\"\n"),
                       "%s", text);
    die(true, text, sizeof text);
    cr_assert_not_null(strstr(text, "\"level\":\"error\",\"event\":\"assertion_failed\","
                                    "\"node\":\"a:1\",\"at\":\"file.c:7\",\"function\":\"work\","
                                    "\"condition\":\"strcmp(at, 'x') == 0\"}\n"),
                       "%s", text);
}
