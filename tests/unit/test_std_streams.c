/* Streams that are closed when a program starts. */

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trilith/std_streams.h"

/* In a child, since Criterion speaks through the streams itself. */
static int run_without_streams(int (*body)(void))
{
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)close(STDIN_FILENO);
        (void)close(STDERR_FILENO);
        _exit(body());
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int next_file_is_no_stream(void)
{
    if (std_streams_hold() != TL_OK) return 1;
    int fds[2];
    if (pipe(fds) != 0) return 2;
    return fds[0] > STDERR_FILENO ? 0 : 3;
}

static int held_streams_fail(void)
{
    char byte = 0;
    if (std_streams_hold() != TL_OK) return 1;
    if (read(STDIN_FILENO, &byte, 1) != -1 || errno != EBADF) return 2;
    if (write(STDERR_FILENO, &byte, 1) != -1 || errno != EBADF) return 3;
    return 0;
}

Test(std_streams, next_file_gets_none_of_their_numbers)
{
    cr_assert_eq(run_without_streams(next_file_is_no_stream), 0);
}

Test(std_streams, closed_ones_fail_as_before)
{
    cr_assert_eq(run_without_streams(held_streams_fail), 0);
}

Test(std_streams, open_ones_stay_as_they_are)
{
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    int saved = dup(STDIN_FILENO);
    cr_assert_eq(dup2(fds[0], STDIN_FILENO), STDIN_FILENO);
    cr_assert_eq(std_streams_hold(), TL_OK);
    char byte = 'x';
    cr_assert_eq(write(fds[1], &byte, 1), 1);
    byte = 0;
    cr_assert_eq(read(STDIN_FILENO, &byte, 1), 1);
    cr_assert_eq(byte, 'x');
    cr_assert_eq(dup2(saved, STDIN_FILENO), STDIN_FILENO);
}
