/* The parsed list of keys of an EXEC. docs/agent.md explains them. */
#ifndef TSVMM_AGENT_SPEC_H
#define TSVMM_AGENT_SPEC_H

#include <stdbool.h>
#include <stddef.h>

struct spec {
    const char *list; /* what it was read from, for keys that may come more than once */
    size_t length;
    char **argv, **envp;
    const char *cwd, *user, *root, *container;
    bool tty, null_stdin, make_cwd;
    const char *tool;       /* a program of the agent's instead of one found by argv[0] */
    bool init;              /* it becomes the container's init */
    const char *caps, *oom; /* hexadecimal, decimal; NULL: as the agent has them */
    const char *ambient;    /* hexadecimal: capabilities that also another user than root has; NULL: none */
    bool only_groups;       /* none besides those of group= */
    bool no_new_privs;
    const char *seccomp; /* FLAGS:HEX, see seccomp.h; NULL: no filter */
    unsigned umask;
    unsigned columns, rows;
};

/* Parses a list. `spec` then points into it. @return false when it names no program; free it in any case */
bool spec_read(const char *list, size_t length, struct spec *spec);
void spec_free(struct spec *spec);
/* The value of an environment variable, NULL if it has none. */
const char *spec_variable(const struct spec *spec, const char *name);
/* Adds HOME to an environment that has none. */
void spec_default_home(struct spec *spec, const char *home);

#endif
