/* Privileges of a payload, see privileges.h; capabilities(7), getrlimit(2), proc_pid_oom_score_adj(5). */
#include "privileges.h"
#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/capability.h>, which musl's compiler does not see. */
#define CAPABILITY_VERSION_3 0x20080522u
struct capability_header {
    uint32_t version;
    int pid;
};
struct capability_data {
    uint32_t effective, permitted, inheritable;
};

static const struct {
    const char *name;
    int resource;
} LIMITS[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

static bool refuse(struct refusal *why, int error, const char *format, ...) {
    va_list values;
    why->error = error;
    va_start(values, format);
    vsnprintf(why->text, sizeof why->text, format, values);
    va_end(values);
    return false;
}

bool privileges_oom(const struct spec *spec, struct refusal *why) {
    if (spec->oom == NULL)
        return true;
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, spec->oom, strlen(spec->oom)) > 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return written || refuse(why, error, "cannot set oom_score_adj to %s: %s", spec->oom, strerror(error));
}

/* "1024" or "unlimited", up to a colon or the end. */
static bool read_limit(const char **text, rlim_t *value) {
    char *end;
    if (strncmp(*text, "unlimited", 9) == 0) {
        *value = RLIM_INFINITY;
        *text += 9;
        return true;
    }
    errno = 0;
    *value = strtoull(*text, &end, 10);
    bool good = **text >= '0' && **text <= '9' && errno == 0;
    *text = end;
    return good;
}

static bool set_limit(const char *text, struct refusal *why) {
    size_t length = strcspn(text, ":"), i = 0, count = sizeof LIMITS / sizeof *LIMITS;
    struct rlimit limit;
    const char *at = text + length;
    while (i < count && (strlen(LIMITS[i].name) != length || strncmp(LIMITS[i].name, text, length) != 0))
        i++;
    if (i == count || *at++ != ':' || !read_limit(&at, &limit.rlim_cur) || *at++ != ':' ||
        !read_limit(&at, &limit.rlim_max) || *at != 0)
        return refuse(why, EINVAL, "cannot read limit \"%.60s\"", text);
    if (setrlimit(LIMITS[i].resource, &limit) < 0)
        return refuse(why, errno, "cannot set limit %.60s: %s", text, strerror(errno));
    return true;
}

bool privileges_limits(const struct spec *spec, struct refusal *why) {
    const char *value;
    for (const char *e = NULL; (e = list_next(spec->list, spec->length, e)) != NULL;)
        if ((value = list_value(e, "rlimit")) != NULL && !set_limit(value, why))
            return false;
    return true;
}

static bool read_capabilities(const char *text, uint64_t *set, struct refusal *why) {
    char *end;
    errno = 0;
    *set = strtoull(text, &end, 16);
    if (*text == 0 || *text == '-' || *end != 0 || errno != 0)
        return refuse(why, EINVAL, "cannot read capabilities \"%.60s\"", text);
    return true;
}

bool privileges_bound(const struct spec *spec, struct refusal *why) {
    uint64_t set;
    if (spec->ambient != NULL && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return refuse(why, errno, "cannot keep capabilities: %s", strerror(errno));
    if (spec->caps == NULL)
        return true;
    if (!read_capabilities(spec->caps, &set, why))
        return false;
    for (int number = 0; number < 64; number++) {
        int present = prctl(PR_CAPBSET_READ, number, 0, 0, 0);
        if (present < 0)
            break; /* this kernel has no more */
        if (present > 0 && (set >> number & 1) == 0 && prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0)
            return refuse(why, errno, "cannot drop capability %d: %s", number, strerror(errno));
    }
    return true;
}

/* Root keeps all of its capabilities, another user the ambient ones. */
static bool raise_ambient(uint64_t ambient, struct refusal *why) {
    for (int number = 0; number < 64; number++)
        if ((ambient >> number & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0)
            return refuse(why, errno, "cannot raise ambient capability %d: %s", number, strerror(errno));
    return true;
}

bool privileges_drop(const struct spec *spec, struct refusal *why) {
    struct capability_header header = {.version = CAPABILITY_VERSION_3};
    struct capability_data data[2];
    uint64_t set, ambient = 0;
    if (spec->caps != NULL) {
        if (!read_capabilities(spec->caps, &set, why) ||
            (spec->ambient != NULL && !read_capabilities(spec->ambient, &ambient, why)))
            return false;
        ambient &= set;
        if (geteuid() != 0)
            set = ambient;
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (syscall(SYS_capget, &header, data) < 0)
            return refuse(why, errno, "cannot read capabilities: %s", strerror(errno));
        for (int i = 0; i < 2; i++) {
            data[i].permitted &= (uint32_t)(set >> 32 * i);
            data[i].effective &= data[i].permitted;
            data[i].inheritable = data[i].permitted & (uint32_t)(ambient >> 32 * i);
        }
        if (syscall(SYS_capset, &header, data) < 0)
            return refuse(why, errno, "cannot drop capabilities: %s", strerror(errno));
        if (!raise_ambient(ambient, why))
            return false;
    }
    if (spec->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return refuse(why, errno, "cannot set no_new_privs: %s", strerror(errno));
    return true;
}
