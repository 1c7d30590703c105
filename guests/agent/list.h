/* A list of "key=value" strings, each ended by a NUL, as in EXEC and SETUP. */
#ifndef TSVMM_AGENT_LIST_H
#define TSVMM_AGENT_LIST_H

#include <stddef.h>

/* The entry after `entry`, the first when it is NULL; NULL at the end. */
const char *list_next(const char *list, size_t length, const char *entry);
/* The value of `entry` if its key is `key`, else NULL. */
const char *list_value(const char *entry, const char *key);

#endif
