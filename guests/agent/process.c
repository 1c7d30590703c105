/*
 * Starting a payload, see process.h. Between fork and exec the child enters its root, opens its folder,
 * becomes its user and looks argv[0] up in its PATH; whatever fails there travels back through a
 * close-on-exec pipe.
 */
#include "process.h"
#include "agent.h"
#include "list.h"
#include "mount.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct spec {
    char **argv, **envp;
    const char *cwd, *user, *root;
    bool tty, null_stdin, make_cwd;
    unsigned columns, rows;
};

/* "80x24" */
static void read_size(const char *text, struct spec *spec) {
    char *end;
    spec->columns = (unsigned)strtoul(text, &end, 10);
    spec->rows = *end == 'x' ? (unsigned)strtoul(end + 1, NULL, 10) : 0;
    spec->tty = true;
}

static bool read_spec(const char *list, size_t length, struct spec *spec) {
    size_t args = 0, envs = 0;
    const char *value;
    for (const char *e = NULL; (e = list_next(list, length, e)) != NULL;) {
        args += list_value(e, "arg") != NULL;
        envs += list_value(e, "env") != NULL;
    }
    *spec = (struct spec){.cwd = "/", .user = NULL, .make_cwd = true};
    spec->argv = calloc(args + 1, sizeof(char *));
    spec->envp = calloc(envs + 3, sizeof(char *)); /* room for HOME */
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
        else if ((value = list_value(e, "stdin")) != NULL)
            spec->null_stdin = strcmp(value, "null") == 0;
        else if ((value = list_value(e, "mkcwd")) != NULL)
            spec->make_cwd = strcmp(value, "1") == 0;
        else if ((value = list_value(e, "tty")) != NULL)
            read_size(value, spec);
    }
    return true;
}

static void explain(struct failure *failure, uint32_t exit_status, int error, const char *format, ...) {
    va_list values;
    *failure = (struct failure){.exit_status = exit_status, .error = (uint32_t)error};
    va_start(values, format);
    vsnprintf(failure->text, sizeof failure->text, format, values);
    va_end(values);
}

__attribute__((noreturn)) static void give_up(int status, struct failure *failure) {
    if (write(status, failure, sizeof *failure) < 0)
        _exit(124);
    _exit(125);
}

static const char *variable(char *const *envp, const char *name) {
    const char *last = NULL;
    for (; *envp != NULL; envp++)
        if (list_value(*envp, name) != NULL)
            last = list_value(*envp, name);
    return last;
}

/* execve along PATH; comes back only when nothing could be run. @return errno */
static int search(const struct spec *spec) {
    const char *name = spec->argv[0], *path = variable(spec->envp, "PATH");
    if (name[0] == 0)
        return ENOENT;
    if (strchr(name, '/') != NULL) {
        execve(name, spec->argv, spec->envp);
        return errno;
    }
    int error = ENOENT;
    for (const char *folder = path != NULL ? path : DEFAULT_PATH; folder != NULL;) {
        size_t length = strcspn(folder, ":");
        char file[4096];
        if (length + strlen(name) + 2 <= sizeof file) {
            snprintf(file, sizeof file, "%.*s/%s", length == 0 ? 1 : (int)length, length == 0 ? "." : folder,
                     name);
            execve(file, spec->argv, spec->envp);
            /* A folder or file that may not be run does not end the search, but explains its failure. */
            if (errno != ENOENT && errno != ENOTDIR && error == ENOENT)
                error = errno;
        }
        folder = folder[length] == ':' ? folder + length + 1 : NULL;
    }
    return error;
}

static void become_user(const struct spec *spec, int status, struct failure *failure) {
    struct user user;
    char why[200];
    if (!user_find(spec->user == NULL ? "" : spec->user, &user, why, sizeof why)) {
        explain(failure, 125, 0, "%s", why);
        give_up(status, failure);
    }
    if (variable(spec->envp, "HOME") == NULL) {
        size_t last = 0;
        while (spec->envp[last] != NULL)
            last++;
        char *home = malloc(sizeof user.home + 5);
        sprintf(home, "HOME=%s", user.home);
        spec->envp[last] = home;
    }
    if (spec->user == NULL)
        return; /* as the agent itself */
    /* /dev/stdout and friends are opened anew through /proc by name, which asks for the owner. */
    for (int fd = spec->null_stdin && !spec->tty ? 1 : 0; fd < 3; fd++)
        if (fchown(fd, user.uid, (gid_t)-1) < 0 && errno == EBADF)
            break;
    if (setgroups(user.group_count, user.groups) < 0 || setgid(user.gid) < 0 || setuid(user.uid) < 0) {
        explain(failure, 125, errno, "cannot become user %s: %s", spec->user, strerror(errno));
        give_up(status, failure);
    }
}

__attribute__((noreturn)) static void child(const struct spec *spec, const int *stdio, int status) {
    struct failure failure;
    sigset_t none;
    setsid();
    /* None of them sits on 0 to 2: main keeps those open. */
    for (int fd = 0; fd < 3; fd++)
        dup2(stdio[fd], fd);
    if (spec->tty)
        ioctl(0, TIOCSCTTY, 0);
    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_NOFILE, &payload_nofile);
    if (spec->root != NULL && (chroot(spec->root) < 0 || chdir("/") < 0)) {
        explain(&failure, 125, errno, "cannot enter root %s: %s", spec->root, strerror(errno));
        give_up(status, &failure);
    }
    umask(022);
    if ((spec->make_cwd && make_folders(spec->cwd, 0755) < 0) || chdir(spec->cwd) < 0) {
        explain(&failure, 126, errno, "cannot enter folder %s: %s", spec->cwd, strerror(errno));
        give_up(status, &failure);
    }
    become_user(spec, status, &failure);
    int error = search(spec);
    if (error == ENOENT || error == ENOTDIR)
        explain(&failure, 127, error, "cannot run \"%s\": %s", spec->argv[0],
                strchr(spec->argv[0], '/') == NULL ? "executable file not found in $PATH" : strerror(error));
    else
        explain(&failure, 126, error, "cannot run \"%s\": %s", spec->argv[0], strerror(error));
    give_up(status, &failure);
}

void process_resize(int master, unsigned columns, unsigned rows) {
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    ioctl(master, TIOCSWINSZ, &size);
}

/* Opens a pty in the root that the payload will see, so that its name resolves there. */
static bool open_pty(const struct spec *spec, int *master, int *slave) {
    char path[512];
    int off = 0;
    snprintf(path, sizeof path, "%s/dev/ptmx", spec->root == NULL ? "" : spec->root);
    *master = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*master < 0)
        return false;
    *slave = -1;
    if (ioctl(*master, TIOCSPTLCK, &off) == 0)
        *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0) {
        close(*master);
        return false;
    }
    process_resize(*master, spec->columns, spec->rows);
    return true;
}

bool process_start(const char *list, size_t length, struct process *process, struct failure *failure) {
    struct spec spec;
    int pipes[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    int stdio[3] = {-1, -1, -1};
    *process = (struct process){.in = -1, .out = -1, .err = -1, .status = -1};
    if (!read_spec(list, length, &spec)) {
        explain(failure, 125, EINVAL, "cannot run nothing: no arg= in EXEC");
        free(spec.argv);
        free(spec.envp);
        return false;
    }
    bool ready = pipe2(pipes[3], O_CLOEXEC) == 0;
    if (ready && spec.tty) {
        int slave;
        ready = open_pty(&spec, &process->in, &slave);
        if (ready) {
            stdio[0] = stdio[1] = stdio[2] = slave;
            process->out = fcntl(process->in, F_DUPFD_CLOEXEC, 3);
        }
    } else if (ready) {
        ready = pipe2(pipes[1], O_CLOEXEC) == 0 && pipe2(pipes[2], O_CLOEXEC) == 0 &&
                (spec.null_stdin ? (pipes[0][0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0
                                 : pipe2(pipes[0], O_CLOEXEC) == 0);
        stdio[0] = pipes[0][0], stdio[1] = pipes[1][1], stdio[2] = pipes[2][1];
        process->in = pipes[0][1], process->out = pipes[1][0], process->err = pipes[2][0];
    }
    process->status = pipes[3][0];
    process->tty = spec.tty;
    process->pid = ready ? fork() : -1;
    if (process->pid == 0)
        child(&spec, stdio, pipes[3][1]);
    int error = errno;
    close(pipes[3][1]);
    close(stdio[0]);
    if (!spec.tty) {
        close(stdio[1]);
        close(stdio[2]);
    }
    free(spec.argv);
    free(spec.envp);
    int mine[4] = {process->in, process->out, process->err, process->status};
    for (int i = 0; i < 4; i++) {
        if (process->pid < 0)
            close(mine[i]);
        else if (mine[i] >= 0)
            fcntl(mine[i], F_SETFL, fcntl(mine[i], F_GETFL) | O_NONBLOCK);
    }
    if (process->pid < 0)
        explain(failure, 125, error, "cannot start a process: %s", strerror(error));
    return process->pid > 0;
}
