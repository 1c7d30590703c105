/*
 * The run loop: one thread per vCPU in KVM_RUN (KVM api.rst §4.10).
 *
 *     vCPU thread: KVM_RUN -> exit -> answered in C (answers.c)? -> KVM_RUN
 *                                  -> else state = VCPU_EXITED, wake JavaScript, wait on the state word
 *     JavaScript:  onWake -> drain the posted ring -> handle the exit in kvm_run -> vcpuResume -> futex wake
 *
 * A posted write is in the ring before its thread publishes VCPU_EXITED, so a reader that drains the ring
 * after it has seen the state keeps the guest's order. Threads never call into JavaScript; uv_async does.
 * How the two wait for one another is in handover.c.
 */
#include "runloop.h"
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define KICK_SIGNAL (SIGRTMIN + 5) /* Node cannot take real-time signals */
#define SPARE_SIGNAL SIGURG        /* where RLIMIT_SIGPENDING lets no more of those be queued */

static void *vcpu_thread(void *argument) {
    struct vcpu *vcpu = argument;
    struct loop *loop = vcpu->loop;
    _Atomic int32_t *state = &loop->states[vcpu->index];
    int32_t last = VCPU_STOPPED;
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    sigaddset(&kick, SPARE_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);

    while (!atomic_load(&loop->stop)) {
        if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
            int error = errno;
            if (error == EAGAIN)
                continue; /* an application processor got no SIPI yet, or was woken for something else */
            if (error != EINTR) {
                atomic_store(&loop->errnos[vcpu->index], error);
                last = VCPU_FAILED;
                break;
            }
            /* Cleared before `kicked` and `stop` are read: their setters set immediate_exit after them. */
            __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            if (!atomic_exchange(&vcpu->kicked, false))
                continue;
            vcpu->run->exit_reason = KVM_EXIT_INTR;
        } else if (answer(vcpu)) {
            continue;
        }
        atomic_store(state, VCPU_EXITED);
        wake(loop);
        await_answer(vcpu);
    }
    atomic_store(state, last);
    wake(loop);
    atomic_store(&vcpu->done, true);
    return NULL;
}

static void on_kick(int signal) {
    (void)signal;
}

static void kick(struct vcpu *vcpu) {
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (pthread_kill(vcpu->thread, KICK_SIGNAL) == EAGAIN)
        pthread_kill(vcpu->thread, SPARE_SIGNAL);
}

/* Ends all threads. The futex wakes a parked one, the signal one in the guest, immediate_exit one on its way
 * there. Repeated, because a signal may come between any two steps of a thread. */
static void stop_threads(struct loop *loop) {
    atomic_store(&loop->stop, true);
    for (bool busy = true; busy;) {
        busy = false;
        for (uint32_t i = 0; i < loop->max_vcpus; i++) {
            struct vcpu *vcpu = &loop->vcpus[i];
            if (!vcpu->started || atomic_load(&vcpu->done))
                continue;
            busy = true;
            kick(vcpu);
            wake_vcpu(vcpu);
        }
        if (busy)
            usleep(100);
    }
    for (uint32_t i = 0; i < loop->max_vcpus; i++) {
        struct vcpu *vcpu = &loop->vcpus[i];
        if (!vcpu->started)
            continue;
        pthread_join(vcpu->thread, NULL);
        close(vcpu->fd);
        vcpu->started = false;
    }
    uv_unref((uv_handle_t *)&loop->async);
}

struct runs {
    struct {
        void *run;
        size_t bytes;
    } of[MAX_VCPUS];
};

/* Drops the last reference to a VM, which KVM takes ten milliseconds and more to destroy. */
static void unmap_runs(void *data) {
    struct runs *runs = data;
    for (size_t i = 0; i < MAX_VCPUS; i++)
        if (runs->of[i].run != NULL)
            munmap(runs->of[i].run, runs->of[i].bytes);
    free(runs);
}

static void free_loop(uv_handle_t *async) {
    struct loop *loop = async->data;
    pthread_mutex_destroy(&loop->posting);
    for (uint32_t i = 0; i < loop->max_vcpus; i++)
        if (loop->vcpus[i].run != NULL)
            munmap(loop->vcpus[i].run, loop->vcpus[i].run_bytes);
    free(loop);
}

/* Also the environment's cleanup hook: no thread may outlive it. */
static void destroy(void *argument) {
    struct loop *loop = argument;
    napi_env env = loop->callback.env;
    stop_threads(loop);
    handover_end();
    for (size_t i = 0; i < 4; i++)
        buffer_detach(env, &loop->buffers[i]);
    for (uint32_t i = 0; i < loop->max_vcpus; i++)
        buffer_detach(env, &loop->vcpus[i].run_buffer);
    callback_destroy(&loop->callback);
    uv_close((uv_handle_t *)&loop->async, free_loop);
}

static struct loop *create(napi_env env, uint32_t max_vcpus, napi_value on_wake) {
    uv_loop_t *uv;
    struct loop *loop = aligned_alloc(64, (sizeof *loop + 63) / 64 * 64);
    if (loop == NULL)
        return NULL;
    memset(loop, 0, sizeof *loop);
    loop->max_vcpus = max_vcpus;
    for (uint32_t i = 0; i < max_vcpus; i++) {
        loop->vcpus[i].loop = loop;
        loop->vcpus[i].index = i;
        loop->states[i] = VCPU_STOPPED;
    }
    if (pthread_mutex_init(&loop->posting, NULL) != 0)
        goto no_mutex;
    if (!callback_create(&loop->callback, env, on_wake))
        goto no_callback;
    if (napi_get_uv_event_loop(env, &uv) != napi_ok || !handover_begin(loop, uv))
        goto no_async;
    uv_unref((uv_handle_t *)&loop->async); /* until a vCPU runs */
    napi_add_env_cleanup_hook(env, destroy, loop);
    return loop;
no_async:
    callback_destroy(&loop->callback);
no_callback:
    pthread_mutex_destroy(&loop->posting);
no_mutex:
    free(loop);
    return NULL;
}

NATIVE(loopCreate) {
    ARGUMENTS(2);
    struct sigaction action = {.sa_handler = on_kick}, spare;
    if (INT(0) < 1 || INT(0) > MAX_VCPUS)
        return throw_errno(env, "create a run loop", EINVAL);
    struct loop *loop = create(env, (uint32_t)INT(0), argv[1]);
    if (loop == NULL)
        return throw_errno(env, "create a run loop", ENOMEM);
    sigaction(KICK_SIGNAL, &action, NULL);
    if (sigaction(SPARE_SIGNAL, NULL, &spare) == 0 && spare.sa_handler == SIG_DFL)
        sigaction(SPARE_SIGNAL, &action, NULL);

    size_t words = loop->max_vcpus * sizeof(int32_t);
    napi_value values[] = {
        handle(env, KIND_loop, loop),
        buffer(env, (void *)loop->states, words, &loop->buffers[0]),
        buffer(env, (void *)loop->errnos, words, &loop->buffers[1]),
        buffer(env, (void *)loop->shadow, SHADOW_WORDS * 4, &loop->buffers[2]),
        buffer(env, &loop->posted, sizeof loop->posted, &loop->buffers[3]),
    };
    napi_value result =
        object(env, (const char *[]){"loop", "states", "errnos", "shadow", "posted"}, values, 5);
    if (result != NULL)
        return result;
    napi_remove_env_cleanup_hook(env, destroy, loop);
    destroy(loop);
    return throw_errno(env, "create a run loop", ENOMEM);
}

/* Undoes map_run. */
static void unmap_run(napi_env env, struct vcpu *vcpu) {
    buffer_detach(env, &vcpu->run_buffer);
    munmap(vcpu->run, vcpu->run_bytes);
    vcpu->run = NULL;
    close(vcpu->fd);
}

/* Takes the vCPU `fd`. Returns kvm_run for JavaScript. On failure NULL with errno, and nothing is taken. */
static napi_value map_run(napi_env env, struct vcpu *vcpu, int fd, size_t bytes) {
    vcpu->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (vcpu->fd < 0)
        return NULL;
    vcpu->run_bytes = bytes;
    vcpu->run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        int error = errno;
        vcpu->run = NULL;
        close(vcpu->fd);
        errno = error;
        return NULL;
    }
    napi_value view = buffer(env, vcpu->run, bytes, &vcpu->run_buffer);
    if (view == NULL) {
        unmap_run(env, vcpu);
        errno = ENOMEM;
    }
    return view;
}

NATIVE(vcpuStart) {
    ARGUMENTS(4);
    HANDLE(loop);
    uint32_t index = (uint32_t)INT(1);
    if (index >= loop->max_vcpus || loop->vcpus[index].run != NULL || atomic_load(&loop->stop))
        return throw_errno(env, "start a vCPU", EINVAL);
    struct vcpu *vcpu = &loop->vcpus[index];
    napi_value view = map_run(env, vcpu, INT(2), SIZE(3));
    if (view == NULL)
        return throw_errno(env, "map kvm_run of a vCPU", errno);
    atomic_store(&loop->states[index], VCPU_RUNNING);
    if (atomic_load(&vcpu->kicked)) /* before there was a thread */
        vcpu->run->immediate_exit = 1;

    /* The thread inherits a mask that leaves every signal to the others. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        unmap_run(env, vcpu);
        atomic_store(&loop->states[index], VCPU_STOPPED);
        return throw_errno(env, "start the thread of a vCPU", error);
    }
    char name[16];
    snprintf(name, sizeof name, "vcpu%u", index);
    pthread_setname_np(vcpu->thread, name);
    vcpu->started = true;
    uv_ref((uv_handle_t *)&loop->async);
    return view;
}

NATIVE(vcpuResume) {
    ARGUMENTS(2);
    HANDLE(loop);
    uint32_t index = (uint32_t)INT(1);
    int32_t expected = VCPU_EXITED;
    if (index < loop->max_vcpus &&
        atomic_compare_exchange_strong(&loop->states[index], &expected, VCPU_RUNNING))
        wake_vcpu(&loop->vcpus[index]);
    return NULL;
}

NATIVE(vcpuKick) {
    ARGUMENTS(2);
    HANDLE(loop);
    uint32_t index = (uint32_t)INT(1);
    if (index >= loop->max_vcpus)
        return throw_errno(env, "kick a vCPU", EINVAL);
    atomic_store(&loop->vcpus[index].kicked, true); /* without a thread yet: vcpuStart sees it */
    if (loop->vcpus[index].started)
        kick(&loop->vcpus[index]);
    return NULL;
}

NATIVE(loopMayPoll) {
    ARGUMENTS(1);
    HANDLE(loop);
    napi_value result;
    return napi_get_boolean(env, may_poll(loop), &result) == napi_ok ? result : NULL;
}

NATIVE(loopStop) {
    ARGUMENTS(1);
    HANDLE(loop);
    stop_threads(loop);
    return NULL;
}

NATIVE(loopDestroy) {
    ARGUMENTS(1);
    TAKE_HANDLE(loop);
    napi_remove_env_cleanup_hook(env, destroy, loop);
    struct runs *runs = calloc(1, sizeof *runs);
    for (uint32_t i = 0; runs != NULL && i < loop->max_vcpus; i++) {
        runs->of[i].run = loop->vcpus[i].run;
        runs->of[i].bytes = loop->vcpus[i].run_bytes;
        loop->vcpus[i].run = NULL;
    }
    destroy(loop);
    if (runs != NULL)
        off_thread(env, unmap_runs, runs);
    return NULL;
}
