/* Trees of files: removed, and copied into an empty volume. All return 0, or -1 with errno. */
#ifndef TSVMM_AGENT_TREE_H
#define TSVMM_AGENT_TREE_H

#include <sys/types.h>

/*
 * Removes the directory `name` of `parent` and all in it, but no mount: `device` is the device number that
 * its directories have. The device number of a directory shows a mount. That of a file does not: on an
 * overlay it is its layer's.
 */
int tree_remove(int parent, const char *name, dev_t device);
/*
 * Copies all in the directory `from` into the directory `to`, if that is empty, with owners, modes, times,
 * links and extended attributes; `to` gets those of `from`. Nothing is copied when `from` is no directory.
 * What was copied is removed when that fails.
 */
int tree_fill(const char *from, const char *to);

#endif
