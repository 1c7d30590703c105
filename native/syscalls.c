/*
 * System calls on threads of our own, for those that may wait for a disk: JavaScript puts number and
 * arguments into an entry, a thread performs it, and the result comes back through the event loop.
 *
 *     entries[i] --callsSubmit(i)--> queue --thread--> entries[i].result --event loop--> onComplete
 *                                                                         --callsReap--> finished[]
 *
 * Not libuv's threads: four calls that wait for a disk would hold up everybody else's. Paths and structures
 * lie in the entry's own piece of `memory`, which outlives a call that never ends. A thread may take the
 * identity of a user for one call: Linux keeps that per thread.
 */
#include "addon.h"
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MAX_THREADS 8
#define MAX_ENTRIES 1024

struct calls {
    napi_env env;
    uv_async_t async;
    struct callback callback;
    napi_async_cleanup_hook_handle hook;
    napi_ref buffers[3];
    uint32_t entries, slot_bytes;
    struct call_entry *entry;
    uint32_t *finished; /* what callsReap gives to JavaScript */
    char *memory;
    size_t memory_bytes;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t work;
    uint32_t *waiting, *done; /* rings of `entries` */
    uint32_t waiting_head, waiting_count, done_head, done_count;
    uint32_t threads, idle;
    uint32_t references; /* threads, and the event loop's handle */
    bool detached;
    uint32_t in_flight; /* of the JavaScript thread alone */
};

static int64_t call(const struct call_entry *e) {
    const uint64_t *a = e->arguments;
    long result = syscall((long)e->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return result < 0 ? -errno : result;
}

/* With the identity that the entry names, and the capabilities that the thread has: another user than root
 * would lose those on files. By raw calls: the C library's would have all threads follow. */
static int64_t call_as_other(const struct call_entry *e) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct capabilities[2];
    if (syscall(SYS_capget, &header, capabilities) < 0)
        return -errno;
    syscall(SYS_setfsgid, e->fsgid);
    syscall(SYS_setfsuid, e->fsuid);
    syscall(SYS_capset, &header, capabilities);
    int64_t result = call(e);
    syscall(SYS_setfsuid, geteuid());
    syscall(SYS_setfsgid, getegid());
    syscall(SYS_capset, &header, capabilities);
    return result;
}

static int64_t perform(const struct call_entry *e) {
    return e->fsuid == CALL_AS_SELF ? call(e) : call_as_other(e);
}

static void free_calls(struct calls *calls) {
    pthread_cond_destroy(&calls->work);
    pthread_mutex_destroy(&calls->mutex);
    if (calls->memory != NULL)
        munmap(calls->memory, calls->memory_bytes);
    free(calls->entry);
    free(calls->finished);
    free(calls->waiting);
    free(calls->done);
    free(calls);
}

/* Gives one of `references` back, with the mutex held, which is unlocked. */
static void unreference(struct calls *calls) {
    bool last = --calls->references == 0;
    pthread_mutex_unlock(&calls->mutex);
    if (last)
        free_calls(calls);
}

static void *call_thread(void *data) {
    struct calls *calls = data;
    /* The mask is the caller's to apply; the process's own stays as it is. */
    if (unshare(CLONE_FS) == 0)
        umask(0);
    pthread_mutex_lock(&calls->mutex);
    while (!calls->detached) {
        if (calls->waiting_count == 0) {
            calls->idle++;
            pthread_cond_wait(&calls->work, &calls->mutex);
            calls->idle--;
            continue;
        }
        uint32_t index = calls->waiting[calls->waiting_head];
        calls->waiting_head = (calls->waiting_head + 1) % calls->entries;
        calls->waiting_count--;
        struct call_entry *e = &calls->entry[index];
        pthread_mutex_unlock(&calls->mutex);
        int64_t result = perform(e);
        pthread_mutex_lock(&calls->mutex);
        if (calls->detached) {
            if (e->opens && result >= 0)
                close((int)result); /* nobody else knows of it */
            break;
        }
        e->result = result;
        calls->done[(calls->done_head + calls->done_count++) % calls->entries] = index;
        uv_async_send(&calls->async);
    }
    unreference(calls);
    return NULL;
}

/* One more thread; with the mutex held. */
static bool start_thread(struct calls *calls) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Node's own threads */
    bool started = pthread_create(&thread, &attributes, call_thread, calls) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (started) {
        calls->threads++;
        calls->references++;
    }
    return started;
}

static void on_async(uv_async_t *async) {
    struct calls *calls = async->data;
    if (!calls->detached)
        callback_call(&calls->callback, 0, NULL);
}

static void on_closed(uv_handle_t *handle) {
    struct calls *calls = handle->data;
    if (calls->hook != NULL)
        napi_remove_async_cleanup_hook(calls->hook);
    pthread_mutex_lock(&calls->mutex);
    unreference(calls);
}

/* Takes the JavaScript side away. What a thread performs now ends untold. */
static void detach(struct calls *calls) {
    for (size_t i = 0; i < 3; i++)
        buffer_detach(calls->env, &calls->buffers[i]);
    callback_destroy(&calls->callback);
    pthread_mutex_lock(&calls->mutex);
    calls->detached = true;
    pthread_cond_broadcast(&calls->work);
    /* What nobody has begun is given up, but a descriptor has to be closed. */
    for (; calls->waiting_count > 0; calls->waiting_count--) {
        struct call_entry *e = &calls->entry[calls->waiting[calls->waiting_head]];
        calls->waiting_head = (calls->waiting_head + 1) % calls->entries;
        if (e->number == SYS_close)
            close((int)e->arguments[0]);
    }
    /* What was done and not told: its descriptors have no other owner. */
    for (; calls->done_count > 0; calls->done_count--) {
        struct call_entry *e = &calls->entry[calls->done[calls->done_head]];
        calls->done_head = (calls->done_head + 1) % calls->entries;
        if (e->opens && e->result >= 0)
            close((int)e->result);
    }
    pthread_mutex_unlock(&calls->mutex);
    uv_close((uv_handle_t *)&calls->async, on_closed);
}

static void on_exit_env(napi_async_cleanup_hook_handle hook, void *argument) {
    struct calls *calls = argument;
    (void)hook;
    if (!calls->detached)
        detach(calls);
}

static struct calls *allocate(napi_env env, uint32_t entries, uint32_t slot_bytes) {
    struct calls *calls = calloc(1, sizeof *calls);
    if (calls == NULL)
        return NULL;
    calls->env = env;
    calls->entries = entries;
    calls->slot_bytes = slot_bytes;
    calls->memory_bytes = (size_t)entries * slot_bytes;
    pthread_mutex_init(&calls->mutex, NULL);
    pthread_cond_init(&calls->work, NULL);
    void *memory = mmap(NULL, calls->memory_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    calls->memory = memory == MAP_FAILED ? NULL : memory;
    calls->entry = calloc(entries, sizeof *calls->entry);
    calls->finished = calloc(entries, sizeof *calls->finished);
    calls->waiting = calloc(entries, sizeof *calls->waiting);
    calls->done = calloc(entries, sizeof *calls->done);
    if (calls->memory != NULL && calls->entry != NULL && calls->finished != NULL && calls->waiting != NULL &&
        calls->done != NULL)
        return calls;
    free_calls(calls);
    return NULL;
}

/* Ties it to the event loop, or frees it. */
static bool attach(struct calls *calls, napi_value on_complete) {
    uv_loop_t *loop;
    if (!callback_create(&calls->callback, calls->env, on_complete)) {
        free_calls(calls);
        return false;
    }
    if (napi_get_uv_event_loop(calls->env, &loop) != napi_ok ||
        uv_async_init(loop, &calls->async, on_async) != 0) {
        callback_destroy(&calls->callback);
        free_calls(calls);
        return false;
    }
    calls->async.data = calls;
    calls->references = 1;
    uv_unref((uv_handle_t *)&calls->async);
    if (napi_add_async_cleanup_hook(calls->env, on_exit_env, calls, &calls->hook) == napi_ok)
        return true;
    detach(calls);
    return false;
}

NATIVE(callsCreate) {
    ARGUMENTS(3);
    if (INT(0) < 1 || INT(0) > MAX_ENTRIES || SIZE(1) < 1 || SIZE(1) > 1 << 20)
        return throw_errno(env, "set up system calls", EINVAL);
    struct calls *calls = allocate(env, (uint32_t)INT(0), (uint32_t)SIZE(1));
    if (calls == NULL)
        return throw_errno(env, "set up system calls", ENOMEM);
    if (!attach(calls, argv[2]))
        return throw_errno(env, "set up system calls", EINVAL);
    napi_value values[] = {
        handle(env, KIND_calls, calls),
        buffer(env, calls->entry, calls->entries * sizeof *calls->entry, &calls->buffers[0]),
        buffer(env, calls->finished, calls->entries * sizeof *calls->finished, &calls->buffers[1]),
        buffer(env, calls->memory, calls->memory_bytes, &calls->buffers[2]),
        number(env, (double)(uintptr_t)calls->memory),
    };
    const char *const names[] = {"calls", "entries", "finished", "memory", "address"};
    napi_value result = object(env, names, values, 5);
    if (result != NULL)
        return result;
    detach(calls);
    return throw_errno(env, "set up system calls", ENOMEM);
}

NATIVE(callsSubmit) {
    ARGUMENTS(2);
    HANDLE(calls);
    uint32_t index = (uint32_t)INT(1);
    if (index >= calls->entries)
        return throw_errno(env, "submit a system call", EINVAL);
    pthread_mutex_lock(&calls->mutex);
    bool room = calls->waiting_count < calls->entries;
    if (room) {
        calls->waiting[(calls->waiting_head + calls->waiting_count++) % calls->entries] = index;
        if (calls->idle < calls->waiting_count && calls->threads < MAX_THREADS)
            room = start_thread(calls) || calls->threads > 0;
        pthread_cond_signal(&calls->work);
    }
    pthread_mutex_unlock(&calls->mutex);
    if (!room)
        return throw_errno(env, "submit a system call", EAGAIN);
    if (calls->in_flight++ == 0)
        uv_ref((uv_handle_t *)&calls->async); /* keeps the process alive only while something is in flight */
    return NULL;
}

NATIVE(callsNow) {
    ARGUMENTS(2);
    HANDLE(calls);
    uint32_t index = (uint32_t)INT(1);
    return index < calls->entries ? number(env, (double)perform(&calls->entry[index]))
                                  : throw_errno(env, "make a system call", EINVAL);
}

NATIVE(callsReap) {
    ARGUMENTS(1);
    HANDLE(calls);
    uint32_t count = 0;
    pthread_mutex_lock(&calls->mutex);
    for (; calls->done_count > 0; calls->done_count--) {
        calls->finished[count++] = calls->done[calls->done_head];
        calls->done_head = (calls->done_head + 1) % calls->entries;
    }
    pthread_mutex_unlock(&calls->mutex);
    calls->in_flight -= count;
    if (count > 0 && calls->in_flight == 0)
        uv_unref((uv_handle_t *)&calls->async);
    return number(env, count);
}

NATIVE(callsDestroy) {
    ARGUMENTS(1);
    TAKE_HANDLE(calls);
    detach(calls);
    return NULL;
}
