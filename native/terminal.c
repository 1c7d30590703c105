/*
 * Raw mode of a terminal. terminalRestore, exit, and a signal that would kill the process end it. Node
 * handles SIGINT and SIGTERM: it restores the terminal itself when they have no listener.
 */
#include "addon.h"
#include <signal.h>
#include <termios.h>

static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;
static const int FATAL[] = {SIGHUP, SIGQUIT, SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV};

/* Async-signal-safe. SIGTTOU is ignored meanwhile, in case we are in the background. */
static void restore(void) {
    if (raw_fd < 0)
        return;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    int fd = raw_fd;
    raw_fd = -1;
    sigaction(SIGTTOU, &ignore, &before);
    tcsetattr(fd, TCSADRAIN, &saved);
    sigaction(SIGTTOU, &before, NULL);
}

static void on_fatal(int signal) {
    restore();
    raise(signal); /* SA_RESETHAND made it deadly again */
}

NATIVE(terminalRaw) {
    ARGUMENTS(1);
    static bool hooked;
    int fd = INT(0);
    restore();
    if (tcgetattr(fd, &saved) < 0)
        return throw_errno(env, "read the terminal's mode", errno);
    if (!hooked) {
        if (atexit(restore) != 0)
            return throw_errno(env, "see to the terminal's mode at exit", ENOMEM);
        hooked = true;
        for (size_t i = 0; i < sizeof FATAL / sizeof *FATAL; i++) {
            struct sigaction action = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
            struct sigaction before;
            if (sigaction(FATAL[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
                sigaction(FATAL[i], &action, NULL);
        }
    }
    struct termios raw = saved;
    cfmakeraw(&raw);
    raw_fd = fd;
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
        int error = errno;
        raw_fd = -1;
        return throw_errno(env, "make the terminal raw", error);
    }
    return NULL;
}

NATIVE(terminalRestore) {
    (void)env, (void)info;
    restore();
    return NULL;
}
