/* The user of a payload, from /etc/passwd and /etc/group of its root, by Docker's rules. */
#ifndef TSVMM_AGENT_USER_H
#define TSVMM_AGENT_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define GROUPS_MAX 64

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUPS_MAX];
    size_t group_count;
    char home[256];
};

/* Resolves "name", "uid", "name:group", "uid:gid"; "" is uid 0. @return false with a reason in `why` */
bool user_find(const char *spec, struct user *user, char *why, size_t why_size);
/* Adds a supplementary group, by name or number. @return false with a reason in `why` */
bool user_join(struct user *user, const char *group, char *why, size_t why_size);

#endif
