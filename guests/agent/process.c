/*
 * Starting a payload, see process.h. Between fork and exec the child enters its container and its root, opens
 * its terminal and its directory, becomes its user and looks argv[0] up in its PATH; whatever fails there
 * travels back through a close-on-exec socket.
 */
#include "process.h"
#include "agent.h"
#include "container.h"
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct spec {
    char **argv, **envp;
    const char *cwd, *user, *root, *container;
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
        else if ((value = list_value(e, "container")) != NULL)
            spec->container = value;
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
    for (const char *directory = path != NULL ? path : DEFAULT_PATH; directory != NULL;) {
        size_t length = strcspn(directory, ":");
        char file[4096];
        if (length + strlen(name) + 2 <= sizeof file) {
            snprintf(file, sizeof file, "%.*s/%s", length == 0 ? 1 : (int)length,
                     length == 0 ? "." : directory, name);
            execve(file, spec->argv, spec->envp);
            /* A directory or file that may not be run does not end the search, but explains its failure. */
            if (errno != ENOENT && errno != ENOTDIR && error == ENOENT)
                error = errno;
        }
        directory = directory[length] == ':' ? directory + length + 1 : NULL;
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

static void default_signals(void) {
    sigset_t none;
    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

int process_apart(int status) {
    default_signals();
    if (status != 3)
        dup3(status, 3, O_CLOEXEC);
    syscall(SYS_close_range, 4, ~0u, 0);
    return 3;
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

/* Hands the pty's master to the agent. */
static int send_master(int status, int master) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 't';
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &master, sizeof master);
    return sendmsg(status, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

enum process_said process_status(int status, int *master, struct failure *failure) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct failure said;
    struct iovec data = {&said, sizeof said};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(status, &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return SAID_NOTHING;
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        memcpy(master, CMSG_DATA(header), sizeof *master);
        return SAID_TERMINAL;
    }
    if (n != sizeof said)
        return SAID_END;
    *failure = said;
    return SAID_FAILURE;
}

__attribute__((noreturn)) static void child(const struct spec *spec, const struct container *container,
                                            int *stdio, int status) {
    struct failure failure;
    in_charge = false;
    setsid();
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
        if (slave < 0 || send_master(status, master) < 0) {
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
    umask(022);
    if ((spec->make_cwd && make_directories(spec->cwd, 0755) < 0) || chdir(spec->cwd) < 0) {
        explain(&failure, 126, errno, "cannot enter directory %s: %s", spec->cwd, strerror(errno));
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

bool process_start(const char *list, size_t length, struct process *process, struct failure *failure) {
    struct spec spec;
    const struct container *container = NULL;
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, status[2] = {-1, -1};
    *process = (struct process){.pid = -1, .in = -1, .out = -1, .err = -1, .status = -1};
    if (!read_spec(list, length, &spec)) {
        explain(failure, 125, EINVAL, "cannot run nothing: no arg= in EXEC");
        goto end;
    }
    process->tty = spec.tty;
    if (spec.container != NULL && (container = container_find(spec.container)) == NULL) {
        explain(failure, 125, ESRCH, "cannot enter container %s: there is none of that name", spec.container);
        goto end;
    }
    bool ready = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) == 0;
    if (ready && !spec.tty)
        ready = pipe2(pipes[1], O_CLOEXEC) == 0 && pipe2(pipes[2], O_CLOEXEC) == 0 &&
                (spec.null_stdin ? (pipes[0][0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0
                                 : pipe2(pipes[0], O_CLOEXEC) == 0);
    int stdio[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
    process->pid = ready ? container_fork(container) : -1;
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
    if (process->pid < 0) {
        explain(failure, 125, error, "cannot start a process: %s", strerror(error));
        goto end;
    }
    process->in = mine[0], process->out = mine[1], process->err = mine[2], process->status = mine[3];
end:
    free(spec.argv);
    free(spec.envp);
    return process->pid > 0;
}
