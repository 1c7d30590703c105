/*
 * Starting a payload, see process.h. Between fork and exec the child enters its container and its root, opens
 * its terminal, enters its directory, becomes its user and looks argv[0] up in its PATH. A failure is
 * reported through a close-on-exec socket.
 */
#define _GNU_SOURCE /* memfd_create */
#include "process.h"
#include "agent.h"
#include "container.h"
#include "list.h"
#include "mount.h"
#include "privileges.h"
#include "rights.h"
#include "seccomp.h"
#include "spec.h"
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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

/* execve along PATH. Returns only when no program could be run. @return errno */
static int search(const struct spec *spec, int tool) {
    const char *name = spec->argv[0], *path = spec_variable(spec, "PATH");
    if (tool >= 0) {
        syscall(SYS_execveat, tool, "", spec->argv, spec->envp, AT_EMPTY_PATH);
        return errno;
    }
    if (name[0] == 0)
        return ENOENT;
    if (strchr(name, '/') != NULL) {
        execve(name, spec->argv, spec->envp);
        return errno;
    }
    int error = ENOENT;
    for (const char *directory = path != NULL ? path : DEFAULT_PATH; directory != NULL;) {
        size_t length = strcspn(directory, ":");
        char file[4096];
        if (length + strlen(name) + 2 <= sizeof file) {
            snprintf(file, sizeof file, "%.*s/%s", length == 0 ? 1 : (int)length,
                     length == 0 ? "." : directory, name);
            execve(file, spec->argv, spec->envp);
            /*
             * A directory or a file without permission does not end the search, but its errno is returned if
             * the search fails.
             */
            if (errno != ENOENT && errno != ENOTDIR && error == ENOENT)
                error = errno;
        }
        directory = directory[length] == ':' ? directory + length + 1 : NULL;
    }
    return error;
}

/* The groups that group= adds. @return whether there are any; explained by `why` when one is not found */
static bool join_groups(const struct spec *spec, struct user *user, char *why, size_t why_size) {
    const char *value;
    bool any = false;
    why[0] = 0;
    for (const char *e = NULL; why[0] == 0 && (e = list_next(spec->list, spec->length, e)) != NULL;)
        if ((value = list_value(e, "group")) != NULL)
            any = user_join(user, value, why, why_size);
    return any;
}

static void become_user(struct spec *spec, int status, struct failure *failure) {
    struct user user;
    char why[200] = "";
    bool more = user_find(spec->user == NULL ? "" : spec->user, &user, why, sizeof why);
    if (spec->only_groups)
        user.group_count = 0;
    more = more && join_groups(spec, &user, why, sizeof why);
    if (why[0] != 0) {
        explain(failure, 125, 0, "%s", why);
        give_up(status, failure);
    }
    spec_default_home(spec, user.home);
    if (spec->user == NULL && !more)
        return; /* as the agent itself */
    /* /dev/stdout and friends are opened anew through /proc by name, which asks for the owner. */
    for (int fd = spec->null_stdin && !spec->tty ? 1 : 0; fd < 3; fd++)
        if (fchown(fd, user.uid, (gid_t)-1) < 0 && errno == EBADF)
            break;
    if (setgroups(user.group_count, user.groups) < 0 || setgid(user.gid) < 0 || setuid(user.uid) < 0) {
        explain(failure, 125, errno, "cannot become user %s: %s", spec->user == NULL ? "0" : spec->user,
                strerror(errno));
        give_up(status, failure);
    }
}

/* One of the steps of privileges.h. */
static void apply(bool (*step)(const struct spec *, struct refusal *), const struct spec *spec, int status) {
    struct refusal why;
    struct failure failure;
    if (step(spec, &why))
        return;
    explain(&failure, 125, why.error, "%s", why.text);
    give_up(status, &failure);
}

static void default_signals(void) {
    sigset_t none;
    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void process_apart(int *kept, size_t count) {
    default_signals();
    /* Moved to high numbers first: one of them may have another one's new number. */
    for (size_t i = 0; i < count; i++)
        kept[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 3 + (int)count);
    for (size_t i = 0; i < count; i++)
        kept[i] = dup3(kept[i], 3 + (int)i, O_CLOEXEC);
    syscall(SYS_close_range, 3 + (unsigned)count, ~0u, 0);
}

/* Opens a pty in the payload's root, so that its name resolves there. @return the slave; -1 with errno */
static int open_pty(const struct spec *spec, int *master) {
    int off = 0;
    *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*master < 0 || ioctl(*master, TIOCSPTLCK, &off) < 0)
        return -1;
    process_resize(*master, spec->columns, spec->rows);
    return ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

enum process_said process_status(int status, int *master, struct failure *failure) {
    struct failure said;
    int received[RIGHTS_MAX];
    size_t count;
    ssize_t n = rights_receive(status, &said, sizeof said, received, &count);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return SAID_NOTHING;
    if (count > 0) {
        *master = received[0];
        for (size_t i = 1; i < count; i++)
            close(received[i]);
        return SAID_TERMINAL;
    }
    if (n != sizeof said)
        return SAID_END;
    *failure = said;
    return SAID_FAILURE;
}

/* A tool is opened while the agent's own root is the process's. @return -1 when none is asked for */
static int open_tool(const struct spec *spec, int status) {
    struct failure failure;
    char path[PATH_MAX];
    if (spec->tool == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/%s", tools_directory, spec->tool);
    int fd = container_name(spec->tool) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0)
        return fd;
    explain(&failure, 127, ENOENT, "cannot run tool \"%s\": there is none of that name", spec->tool);
    give_up(status, &failure);
}

__attribute__((noreturn)) static void child(struct spec *spec, const struct container *container, int *stdio,
                                            int status) {
    struct failure failure;
    in_charge = false;
    setsid();
    int tool = open_tool(spec, status);
    apply(privileges_oom, spec, status);
    if (container_enter(container) < 0) {
        explain(&failure, 125, errno, "cannot enter container %s: %s", spec->container, strerror(errno));
        give_up(status, &failure);
    }
    if (spec->root != NULL && (chroot(spec->root) < 0 || chdir("/") < 0)) {
        explain(&failure, 125, errno, "cannot enter root %s: %s", spec->root, strerror(errno));
        give_up(status, &failure);
    }
    if (spec->tty) {
        int master, slave = open_pty(spec, &master);
        if (slave < 0 || rights_send(status, &master, 1) < 0) {
            explain(&failure, 125, errno, "cannot open a terminal: %s", strerror(errno));
            give_up(status, &failure);
        }
        stdio[0] = stdio[1] = stdio[2] = slave;
    }
    /* None of them sits on 0 to 2: main keeps those open. */
    for (int fd = 0; fd < 3; fd++)
        dup2(stdio[fd], fd);
    if (spec->tty)
        ioctl(0, TIOCSCTTY, 0);
    default_signals();
    setrlimit(RLIMIT_NOFILE, &payload_nofile);
    apply(privileges_limits, spec, status);
    umask(022);
    if ((spec->make_cwd && make_directories(spec->cwd, 0755) < 0) || chdir(spec->cwd) < 0) {
        explain(&failure, 126, errno, "cannot enter directory %s: %s", spec->cwd, strerror(errno));
        give_up(status, &failure);
    }
    umask(spec->umask);
    apply(privileges_bound, spec, status);
    apply(seccomp_early, spec, status);
    become_user(spec, status, &failure);
    apply(privileges_drop, spec, status);
    if (spec->init)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* another user's process has lost it */
    apply(seccomp_late, spec, status);
    int error = search(spec, tool);
    if (error == ENOENT || error == ENOTDIR)
        explain(&failure, 127, error, "cannot run \"%s\": %s", spec->argv[0],
                strchr(spec->argv[0], '/') == NULL ? "executable file not found in $PATH" : strerror(error));
    else
        explain(&failure, 126, error, "cannot run \"%s\": %s", spec->argv[0], strerror(error));
    give_up(status, &failure);
}

/*
 * The container's init executes the program itself. It gets the list in a memory file: a message is too
 * small, and sending must never block the agent.
 */
static pid_t start_init(const char *list, size_t length, struct container *container, const int *given) {
    int descriptors[RIGHTS_MAX] = {memfd_create("exec", MFD_CLOEXEC), given[0], given[1], given[2], given[3]};
    pid_t pid = -1;
    if (descriptors[0] >= 0 && write(descriptors[0], list, length) == (ssize_t)length)
        pid = container_execute(container, descriptors, given[1] < 0 ? 2 : 5);
    int error = errno;
    close(descriptors[0]);
    errno = error;
    return pid;
}

void process_execute(const int *descriptors, size_t count) {
    struct spec spec;
    struct failure failure;
    struct stat file;
    int stdio[3] = {-1, -1, -1}, status = count > 1 ? descriptors[1] : -1;
    if (count == 5)
        memcpy(stdio, descriptors + 2, sizeof stdio);
    char *list = count > 1 && fstat(descriptors[0], &file) == 0 ? calloc(1, (size_t)file.st_size + 1) : NULL;
    if (list == NULL || pread(descriptors[0], list, (size_t)file.st_size, 0) != file.st_size ||
        !spec_read(list, (size_t)file.st_size, &spec)) {
        explain(&failure, 125, ENOMEM, "cannot run anything: %s", strerror(ENOMEM));
        give_up(status, &failure);
    }
    child(&spec, NULL, stdio, status);
}

/* The descriptors that a process gets besides `status`: three ends of pipes, or /dev/null. With a pty none.
 */
static bool open_stdio(const struct spec *spec, int pipes[3][2]) {
    if (spec->tty)
        return true;
    return pipe2(pipes[1], O_CLOEXEC) == 0 && pipe2(pipes[2], O_CLOEXEC) == 0 &&
           (spec->null_stdin ? (pipes[0][0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0
                             : pipe2(pipes[0], O_CLOEXEC) == 0);
}

bool process_start(const char *list, size_t length, struct process *process, struct failure *failure) {
    struct spec spec;
    struct container *container = NULL;
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, status[2] = {-1, -1};
    *process = (struct process){.pid = -1, .in = -1, .out = -1, .err = -1, .status = -1};
    if (!spec_read(list, length, &spec)) {
        explain(failure, 125, EINVAL, "cannot run nothing: no arg= in EXEC");
        goto end;
    }
    process->tty = spec.tty;
    if (spec.container != NULL && (container = container_find(spec.container)) == NULL) {
        explain(failure, 125, ESRCH, "cannot enter container %s: there is none of that name", spec.container);
        goto end;
    }
    if (spec.init && container == NULL) {
        explain(failure, 125, EINVAL, "cannot run an init: no container= in EXEC");
        goto end;
    }
    if (spec.init && spec.tool != NULL) {
        explain(failure, 125, EINVAL, "cannot run a tool as the init of container %s", spec.container);
        goto end;
    }
    bool ready =
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) == 0 && open_stdio(&spec, pipes);
    int stdio[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
    if (ready && spec.init)
        process->pid = start_init(list, length, container, (int[]){status[1], stdio[0], stdio[1], stdio[2]});
    else if (ready)
        process->pid = container_fork(container);
    if (process->pid == 0)
        child(&spec, container, stdio, status[1]);
    int error = errno, mine[4] = {pipes[0][1], pipes[1][0], pipes[2][0], status[0]};
    close(status[1]);
    for (int i = 0; i < 3; i++)
        close(stdio[i]);
    for (int i = 0; i < 4; i++) {
        if (process->pid < 0)
            close(mine[i]);
        else if (mine[i] >= 0)
            fcntl(mine[i], F_SETFL, fcntl(mine[i], F_GETFL) | O_NONBLOCK);
    }
    if (process->pid < 0 && error == EALREADY)
        explain(failure, 125, error, "cannot run the init of container %s: it runs already", spec.container);
    else if (process->pid < 0)
        explain(failure, 125, error, "cannot start a process: %s", strerror(error));
    else
        process->in = mine[0], process->out = mine[1], process->err = mine[2], process->status = mine[3];
end:
    spec_free(&spec);
    return process->pid > 0;
}

void process_resize(int master, unsigned columns, unsigned rows) {
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    ioctl(master, TIOCSWINSZ, &size);
}
