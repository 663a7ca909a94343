/* tmpdir.h - a directory of a test's own, below the working directory.
 *
 * Role:       Not in /tmp: a flush on a tmpfs means nothing, and bugs hide behind that.
 * Thread:     any.
 */

#ifndef TL_TESTS_TMPDIR_H
#define TL_TESTS_TMPDIR_H

#define TMPDIR_PATH_BYTES_MAX 64u

void tmpdir_create(char out_path[TMPDIR_PATH_BYTES_MAX]);
void tmpdir_destroy(const char *path); /* and everything in it */

#endif
