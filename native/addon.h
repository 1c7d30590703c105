/*
 * Shared code of the helper: arguments, errors by errno, and calls into JavaScript. All functions with a name
 * of the interface Native are N-API callbacks and run on the JavaScript thread.
 */
#ifndef TSVMM_ADDON_H
#define TSVMM_ADDON_H

#define NAPI_VERSION 8
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <node_api.h>
#include <uv.h>
#include "tsvmm.h"

#define ARGUMENTS(count)                                                                                     \
    napi_value argv[count];                                                                                  \
    size_t argc = count;                                                                                     \
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL)

/* Argument `i` of the call; 0 or false when it is of another type or, with SIZE, no address or size. */
#define SIZE(i) arg_size(env, argv[i])
#define INT(i) arg_int(env, argv[i])
#define BOOL(i) arg_bool(env, argv[i])
uint64_t arg_size(napi_env env, napi_value value);
int32_t arg_int(napi_env env, napi_value value);
bool arg_bool(napi_env env, napi_value value);

/* The kinds of objects that JavaScript may have a handle of. */
enum kind { KIND_ram = 1, KIND_loop, KIND_poll, KIND_io, KIND_calls };

/*
 * A handle stands for an object of ours in JavaScript. It lives as long as JavaScript can reach it, and is
 * emptied when its object is destroyed. So a late call finds no freed memory.
 */
napi_value handle(napi_env env, enum kind kind, void *object);
/* The object of a handle; NULL and an exception when it is none, of another kind, or empty. */
void *arg_handle(napi_env env, napi_value value, enum kind kind, bool empty);
/* Declares `name`, a `struct name *`, which is argument 0; returns when arg_handle has thrown. */
#define HANDLE(name) DECLARE_HANDLE(name, false)
/* As HANDLE, for a function that destroys the object: the handle is empty afterwards. */
#define TAKE_HANDLE(name) DECLARE_HANDLE(name, true)
#define DECLARE_HANDLE(name, empty)                                                                          \
    struct name *name = arg_handle(env, argv[0], KIND_##name, empty);                                        \
    if (name == NULL)                                                                                        \
    return NULL

/* Throws "Cannot <attempt>: <what errno means>" with `code` set to the errno's name; returns NULL. */
napi_value throw_errno(napi_env env, const char *attempt, int error);

napi_value number(napi_env env, double value);
/* An object with these properties; NULL when there is no memory, or when one of the values is NULL. */
napi_value object(napi_env env, const char *const *names, const napi_value *values, size_t count);

/*
 * An ArrayBuffer on memory of ours; NULL on failure. `reference` lets `buffer_detach` empty it before the
 * memory is freed.
 */
napi_value buffer(napi_env env, void *memory, size_t bytes, napi_ref *reference);
void buffer_detach(napi_env env, napi_ref *reference);

/*
 * Runs `run(data)` on a thread of libuv, or at once if that fails. For calls that take the kernel long. `run`
 * must not touch JavaScript. The environment waits for it at its end.
 */
void off_thread(napi_env env, void (*run)(void *data), void *data);

/* A JavaScript function that the event loop calls, outside of any other call. */
struct callback {
    napi_env env;
    napi_ref function;
    napi_async_context context;
};
/* False without memory, or when `function` is no function. Then there is nothing to destroy. */
bool callback_create(struct callback *callback, napi_env env, napi_value function);
void callback_call(struct callback *callback, size_t argc, const int32_t *arguments);
void callback_destroy(struct callback *callback);

/* clang-format off */
/* The functions of the interface Native in src/host/native.ts. */
#define FUNCTIONS(F) \
    F(ramMap) F(ramOverlay) F(ramPrefetch) F(ramUnmap) \
    F(loopCreate) F(loopRegister) F(vcpuStart) F(vcpuResume) F(vcpuKick) F(loopMayPoll) F(loopStop) F(loopDestroy) \
    F(pollCreate) F(pollSet) F(pollDestroy) \
    F(fdKeep) F(fdForget) F(fdClose) F(eventfdCreate) F(eventfdSignal) F(readv) F(writev) \
    F(callsCreate) F(callsSubmit) F(callsNow) F(callsReap) F(callsDestroy) \
    F(ioCreate) F(ioSubmit) F(ioReap) F(ioCancelReads) F(ioDestroy) \
    F(terminalRaw) F(terminalRestore)
/* clang-format on */
#define NATIVE(name) napi_value native_##name(napi_env env, napi_callback_info info)
#define DECLARE(name) NATIVE(name);
FUNCTIONS(DECLARE)

#endif
