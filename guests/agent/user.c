/* User and group look-up, see user.h. passwd(5) and group(5); NSS does not exist in a static binary, nor is
 * it wanted. */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool number(const char *text, unsigned *value) {
    char *end;
    errno = 0;
    unsigned long parsed = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || errno != 0 || parsed > 0xfffffffeul)
        return false;
    *value = (unsigned)parsed;
    return true;
}

/* Cuts a line at its colons. @return the number of fields */
static size_t fields(char *line, char **field, size_t max) {
    line[strcspn(line, "\r\n")] = 0;
    size_t count = 0;
    while (count < max && line != NULL)
        field[count++] = strsep(&line, ":");
    return count;
}

static bool member(char *list, const char *name) {
    for (char *one = strsep(&list, ","); one != NULL; one = strsep(&list, ","))
        if (strcmp(one, name) == 0)
            return true;
    return false;
}

static void add_group(struct user *user, gid_t gid) {
    for (size_t i = 0; i < user->group_count; i++)
        if (user->groups[i] == gid)
            return;
    if (user->group_count < GROUPS_MAX)
        user->groups[user->group_count++] = gid;
}

/* Only a regular file: opening a FIFO of the image would wait for ever. */
static FILE *open_table(const char *path) {
    struct stat found;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
        return fdopen(fd, "r");
    if (fd >= 0)
        close(fd);
    return NULL;
}

bool user_find(const char *spec, struct user *user, char *why, size_t why_size) {
    char name[256], wanted[256], *group, *line = NULL, *field[7] = {0};
    size_t size = 0;
    unsigned value = 0;
    *user = (struct user){.home = "/"};
    snprintf(name, sizeof name, "%s", spec);
    group = strchr(name, ':');
    if (group != NULL) {
        *group++ = 0;
        snprintf(wanted, sizeof wanted, "%s", group);
        group = wanted[0] != 0 ? wanted : NULL;
    }

    bool numeric = name[0] == 0 || number(name, &value), found = false;
    user->uid = value;
    FILE *file = open_table("/etc/passwd");
    while (file != NULL && !found && getline(&line, &size, file) >= 0) {
        unsigned uid, gid;
        if (fields(line, field, 7) < 6 || !number(field[2], &uid) || !number(field[3], &gid))
            continue;
        /* A name may consist of digits (useradd allows it), so it is tried before a uid. */
        if (strcmp(field[0], name) != 0 && !(numeric && uid == user->uid))
            continue;
        found = true;
        user->uid = uid;
        user->gid = gid;
        snprintf(name, sizeof name, "%s", field[0]);
        snprintf(user->home, sizeof user->home, "%s", field[5][0] != 0 ? field[5] : "/");
    }
    if (file != NULL)
        fclose(file);
    if (!found && !numeric) {
        snprintf(why, why_size, "unable to find user %s: no matching entries in passwd file", name);
        free(line);
        return false;
    }

    bool group_numeric = group != NULL && number(group, &value), group_found = group == NULL || group_numeric;
    if (group_numeric)
        user->gid = value;
    file = open_table("/etc/group");
    while (file != NULL && getline(&line, &size, file) >= 0) {
        unsigned gid;
        size_t count = fields(line, field, 4);
        if (count < 3 || !number(field[2], &gid))
            continue;
        if (group != NULL && !group_numeric && strcmp(field[0], group) == 0) {
            user->gid = gid;
            group_found = true;
        } else if (group == NULL && found && count == 4 && member(field[3], name)) {
            add_group(user, gid);
        }
    }
    if (file != NULL)
        fclose(file);
    free(line);
    /* As in Docker, the group itself is also a supplementary one. */
    add_group(user, user->gid);
    if (!group_found)
        snprintf(why, why_size, "unable to find group %s: no matching entries in group file", group);
    return group_found;
}

bool user_join(struct user *user, const char *group, char *why, size_t why_size) {
    char *line = NULL, *field[4] = {0};
    size_t size = 0;
    unsigned gid = 0;
    bool found = false;
    FILE *file = open_table("/etc/group");
    while (file != NULL && !found && getline(&line, &size, file) >= 0)
        found = fields(line, field, 4) >= 3 && strcmp(field[0], group) == 0 && number(field[2], &gid);
    if (file != NULL)
        fclose(file);
    free(line);
    if (!found && !number(group, &gid)) {
        snprintf(why, why_size, "unable to find group %s: no matching entries in group file", group);
        return false;
    }
    add_group(user, gid);
    return true;
}
