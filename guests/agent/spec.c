/* Reading EXEC, see spec.h. */
#include "spec.h"
#include "list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "80x24" */
static void read_size(const char *text, struct spec *spec) {
    char *end;
    spec->columns = (unsigned)strtoul(text, &end, 10);
    spec->rows = *end == 'x' ? (unsigned)strtoul(end + 1, NULL, 10) : 0;
    spec->tty = true;
}

bool spec_read(const char *list, size_t length, struct spec *spec) {
    size_t args = 0, envs = 0;
    const char *value;
    for (const char *e = NULL; (e = list_next(list, length, e)) != NULL;) {
        args += list_value(e, "arg") != NULL;
        envs += list_value(e, "env") != NULL;
    }
    *spec = (struct spec){.list = list, .length = length, .cwd = "/", .make_cwd = true, .umask = 022};
    spec->argv = calloc(args + 1, sizeof(char *));
    spec->envp = calloc(envs + 2, sizeof(char *)); /* room for HOME */
    if (args == 0 || spec->argv == NULL || spec->envp == NULL)
        return false;
    args = envs = 0;
    for (const char *e = NULL; (e = list_next(list, length, e)) != NULL;) {
        if ((value = list_value(e, "arg")) != NULL)
            spec->argv[args++] = (char *)value;
        else if ((value = list_value(e, "env")) != NULL)
            spec->envp[envs++] = (char *)value;
        else if ((value = list_value(e, "cwd")) != NULL)
            spec->cwd = value;
        else if ((value = list_value(e, "user")) != NULL)
            spec->user = value;
        else if ((value = list_value(e, "root")) != NULL)
            spec->root = value;
        else if ((value = list_value(e, "container")) != NULL)
            spec->container = value;
        else if ((value = list_value(e, "tool")) != NULL)
            spec->tool = value;
        else if ((value = list_value(e, "init")) != NULL)
            spec->init = strcmp(value, "1") == 0;
        else if ((value = list_value(e, "caps")) != NULL)
            spec->caps = value;
        else if ((value = list_value(e, "ambient")) != NULL)
            spec->ambient = value;
        else if ((value = list_value(e, "groups")) != NULL)
            spec->only_groups = strcmp(value, "only") == 0;
        else if ((value = list_value(e, "nnp")) != NULL)
            spec->no_new_privs = strcmp(value, "1") == 0;
        else if ((value = list_value(e, "seccomp")) != NULL)
            spec->seccomp = value;
        else if ((value = list_value(e, "oom")) != NULL)
            spec->oom = value;
        else if ((value = list_value(e, "umask")) != NULL)
            spec->umask = (unsigned)strtoul(value, NULL, 8) & 0777;
        else if ((value = list_value(e, "stdin")) != NULL)
            spec->null_stdin = strcmp(value, "null") == 0;
        else if ((value = list_value(e, "mkcwd")) != NULL)
            spec->make_cwd = strcmp(value, "1") == 0;
        else if ((value = list_value(e, "tty")) != NULL)
            read_size(value, spec);
    }
    return true;
}

void spec_free(struct spec *spec) {
    free(spec->argv);
    free(spec->envp);
}

const char *spec_variable(const struct spec *spec, const char *name) {
    const char *last = NULL;
    for (char *const *entry = spec->envp; *entry != NULL; entry++)
        if (list_value(*entry, name) != NULL)
            last = list_value(*entry, name);
    return last;
}

void spec_default_home(struct spec *spec, const char *home) {
    char **last = spec->envp;
    if (spec_variable(spec, "HOME") != NULL)
        return;
    while (*last != NULL)
        last++;
    size_t size = strlen(home) + sizeof "HOME=";
    if ((*last = malloc(size)) != NULL)
        snprintf(*last, size, "HOME=%s", home);
}
