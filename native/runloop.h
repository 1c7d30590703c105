/*
 * Shared code of the run loop: its memory, its threads (runloop.c), the exits that they answer themselves
 * (answers.c), and how they and JavaScript wait for one another (handover.c).
 */
#ifndef TSVMM_RUNLOOP_H
#define TSVMM_RUNLOOP_H

#include "addon.h"
#include <pthread.h>

struct reg {
    uint64_t address;
    uint32_t size;
    uint8_t pio, kind;
    uint16_t word;
};

struct vcpu {
    struct loop *loop;
    uint32_t index;
    int fd; /* our duplicate, which nobody else can close */
    pthread_t thread;
    bool started;       /* thread exists and is not joined; JavaScript thread only */
    atomic_bool done;   /* thread does not touch our memory any more */
    atomic_bool kicked; /* report the next interruption as an exit */
    atomic_bool asleep; /* on its futex, or about to */
    struct kvm_run *run;
    size_t run_bytes;
    napi_ref run_buffer;
};

struct loop {
    struct posted_ring posted;
    _Atomic int32_t states[MAX_VCPUS], errnos[MAX_VCPUS], shadow[SHADOW_WORDS];
    struct vcpu vcpus[MAX_VCPUS];
    uint32_t max_vcpus;
    atomic_bool stop;
    atomic_bool news;    /* JavaScript has something to look at */
    atomic_bool polling; /* JavaScript looks at `news` without being woken */
    bool spare;          /* the host has a processor for each vCPU and one for JavaScript */
    uint64_t window_ns;  /* how long JavaScript polls; JavaScript thread only, as the next one */
    uint64_t answered_ns;
    pthread_mutex_t posting; /* vCPU threads among themselves */
    atomic_uint registers;
    struct reg table[MAX_REGISTERS];
    uv_async_t async;
    struct callback callback;
    napi_ref buffers[4];
};

/* Wakes JavaScript, after the stores that it must see. */
void wake(struct loop *loop);

/* Whether JavaScript may look for work without sleeping, and nobody else wants the processor or the thread.
 */
bool may_poll(const struct loop *loop);

/* On the vCPU's thread, in an exit that it has published: returns when JavaScript has answered, or at the
 * end. */
void await_answer(struct vcpu *vcpu);

/* Ends the sleep of await_answer, after the state or `stop` was set. */
void wake_vcpu(struct vcpu *vcpu);

/* From now on wake() comes to JavaScript as loop->callback. False when libuv refuses. */
bool handover_begin(struct loop *loop, uv_loop_t *uv);

/* Undoes handover_begin, but for closing loop->async. */
void handover_end(void);

/* Answers the exit that `vcpu` has come back with. False when TypeScript must see it. */
bool answer(struct vcpu *vcpu);

#endif
