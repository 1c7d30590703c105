/* Lists of strings, see list.h. */
#include "list.h"

#include <string.h>

const char *list_next(const char *list, size_t length, const char *entry) {
    const char *next = entry == NULL ? list : entry + strlen(entry) + 1;
    return next < list + length ? next : NULL; /* the list is followed by a NUL of ours */
}

const char *list_value(const char *entry, const char *key) {
    size_t length = strlen(key);
    return strncmp(entry, key, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}
