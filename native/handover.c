/*
 * How vCPU threads and JavaScript wait for one another: a thread in an exit for its answer, JavaScript in its
 * event loop for news.
 *
 *     vCPU thread: state = VCPU_EXITED -> wake -> await_answer -> futex
 *     JavaScript:  event loop -> on_async -> deliver -> ... vcpuResume -> wake_vcpu
 *
 * A guest often exits again at once: a driver that sets a device up, a loop of port accesses. Two sleeps and
 * two wake-ups then take longer than the exit itself. So while exits come close together, JavaScript polls
 * for the next one a moment before its event loop sleeps, and the vCPU polls for the answer meanwhile. Not on
 * a host that has no processor to spare, nor with several machines, of which one would keep the others
 * waiting.
 */
#include "runloop.h"
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

/* Exits that are closer together than this are polled for. */
#define POLL_NS 100000
/* No longer in one turn of the event loop, which has other work. */
#define TURN_NS 200000
/* Looks at memory between two looks at the clock. */
#define LOOKS 16

/* Run loops that exist in this process. */
static atomic_uint loops;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Processors that this process may use. */
static uint32_t processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

/* uv_async_send reads its own flag by a relaxed load, which arm64 may do before the stores that JavaScript
 * must see, and the wake-up would be lost. The fence pairs with libuv's exchange of that flag, before
 * on_async. `news` is set before `polling` is read; on_async clears `polling` before it reads `news`. */
void wake(struct loop *loop) {
    atomic_store(&loop->news, true);
    if (atomic_load(&loop->polling))
        return;
    atomic_thread_fence(memory_order_seq_cst);
    uv_async_send(&loop->async);
}

bool may_poll(const struct loop *loop) {
    return loop->spare && atomic_load(&loops) == 1;
}

static bool waits(struct vcpu *vcpu) {
    struct loop *loop = vcpu->loop;
    return atomic_load(&loop->states[vcpu->index]) == VCPU_EXITED && !atomic_load(&loop->stop);
}

void await_answer(struct vcpu *vcpu) {
    /* While JavaScript polls, the answer is about to come. */
    uint64_t end = now_ns() + POLL_NS;
    while (atomic_load(&vcpu->loop->polling) && now_ns() < end)
        for (int i = 0; i < LOOKS; i++, relax())
            if (!waits(vcpu))
                return;
    atomic_store(&vcpu->asleep, true); /* before the state is read; wake_vcpu reads it after that was set */
    while (waits(vcpu))
        syscall(SYS_futex, &vcpu->loop->states[vcpu->index], FUTEX_WAIT_PRIVATE, VCPU_EXITED, NULL, NULL, 0);
    atomic_store(&vcpu->asleep, false);
}

void wake_vcpu(struct vcpu *vcpu) {
    if (atomic_load(&vcpu->asleep))
        syscall(SYS_futex, &vcpu->loop->states[vcpu->index], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Lets JavaScript look at what there is. It may stop the loop meanwhile. */
static void deliver(struct loop *loop) {
    atomic_store(&loop->news, false);
    if (!atomic_load(&loop->stop))
        callback_call(&loop->callback, 0, NULL);
}

/* True when there is something to look at before `end`. */
static bool poll_until(struct loop *loop, uint64_t end) {
    do {
        for (int i = 0; i < LOOKS; i++, relax())
            if (atomic_load(&loop->news) || atomic_load(&loop->stop))
                return !atomic_load(&loop->stop);
    } while (now_ns() < end);
    return false;
}

static void on_async(uv_async_t *async) {
    struct loop *loop = async->data;
    uint64_t now = now_ns(), end_of_turn = now + TURN_NS;
    /* News that have come late let the next be waited for only half as long. */
    loop->window_ns = now - loop->answered_ns < POLL_NS ? POLL_NS : loop->window_ns / 2;
    deliver(loop);
    if (loop->window_ns > 0 && may_poll(loop)) {
        atomic_store(&loop->polling, true);
        for (now = now_ns(); now < end_of_turn && poll_until(loop, now + loop->window_ns); now = now_ns())
            deliver(loop);
        atomic_store(&loop->polling, false);
        if (atomic_load(&loop->news) && !atomic_load(&loop->stop))
            uv_async_send(&loop->async);
    }
    loop->answered_ns = now_ns();
}

bool handover_begin(struct loop *loop, uv_loop_t *uv) {
    loop->spare = processors() > loop->max_vcpus;
    loop->async.data = loop;
    if (uv_async_init(uv, &loop->async, on_async) != 0)
        return false;
    atomic_fetch_add(&loops, 1);
    return true;
}

void handover_end(void) {
    atomic_fetch_sub(&loops, 1);
}
