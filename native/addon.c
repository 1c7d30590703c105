/*
 * The addon's table of functions, and its shared code. Nothing here waits.
 */
#include "addon.h"

uint64_t arg_size(napi_env env, napi_value value) {
    double result = 0;
    napi_get_value_double(env, value, &result);
    return result >= 0 && result <= 0x1p53 ? (uint64_t)result : 0;
}

int32_t arg_int(napi_env env, napi_value value) {
    int32_t result = 0;
    napi_get_value_int32(env, value, &result);
    return result;
}

bool arg_bool(napi_env env, napi_value value) {
    bool result = false;
    napi_get_value_bool(env, value, &result);
    return result;
}

#define MAGIC 0x7473766d6d00a2b1 /* tells our externals from those of other addons */
static const char *const KINDS[] = {[KIND_ram] = "guest RAM",
                                    [KIND_loop] = "run loop",
                                    [KIND_poll] = "watch",
                                    [KIND_io] = "I/O ring",
                                    [KIND_calls] = "queue of system calls"};

struct handle {
    uint64_t magic;
    enum kind kind;
    void *object;
};

static void free_handle(napi_env env, void *handle, void *hint) {
    (void)env, (void)hint;
    free(handle);
}

napi_value handle(napi_env env, enum kind kind, void *object) {
    struct handle *handle = malloc(sizeof *handle);
    napi_value result = NULL;
    if (handle == NULL)
        return NULL;
    *handle = (struct handle){MAGIC, kind, object};
    if (napi_create_external(env, handle, free_handle, NULL, &result) == napi_ok)
        return result;
    free(handle);
    return NULL;
}

void *arg_handle(napi_env env, napi_value value, enum kind kind, bool empty) {
    struct handle *handle = NULL;
    char message[64];
    if (napi_get_value_external(env, value, (void **)&handle) != napi_ok || handle == NULL ||
        handle->magic != MAGIC || handle->kind != kind) {
        snprintf(message, sizeof message, "Cannot use an argument that is no %s", KINDS[kind]);
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
        return NULL;
    }
    void *object = handle->object;
    if (object == NULL) {
        snprintf(message, sizeof message, "Cannot use this %s: it was destroyed", KINDS[kind]);
        napi_throw_error(env, "ERR_INVALID_STATE", message);
    }
    if (empty)
        handle->object = NULL;
    return object;
}

napi_value throw_errno(napi_env env, const char *attempt, int error) {
    char message[256];
    napi_value other;
    napi_get_and_clear_last_exception(env, &other); /* what a failed call has left, or undefined */
    snprintf(message, sizeof message, "Cannot %s: %s", attempt, uv_strerror(-error));
    napi_throw_error(env, uv_err_name(-error), message);
    return NULL;
}

napi_value number(napi_env env, double value) {
    napi_value result = NULL;
    napi_create_double(env, value, &result);
    return result;
}

napi_value object(napi_env env, const char *const *names, const napi_value *values, size_t count) {
    napi_value result = NULL;
    if (napi_create_object(env, &result) != napi_ok)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (values[i] == NULL || napi_set_named_property(env, result, names[i], values[i]) != napi_ok)
            return NULL;
    return result;
}

napi_value buffer(napi_env env, void *memory, size_t bytes, napi_ref *reference) {
    napi_value result = NULL;
    *reference = NULL;
    if (napi_create_external_arraybuffer(env, memory, bytes, NULL, NULL, &result) != napi_ok)
        return NULL;
    if (napi_create_reference(env, result, 1, reference) == napi_ok)
        return result;
    napi_detach_arraybuffer(env, result);
    return NULL;
}

void buffer_detach(napi_env env, napi_ref *reference) {
    napi_value value = NULL;
    napi_handle_scope scope;
    if (*reference == NULL)
        return;
    napi_open_handle_scope(env, &scope); /* a cleanup hook has none */
    if (napi_get_reference_value(env, *reference, &value) == napi_ok && value != NULL)
        napi_detach_arraybuffer(env, value);
    napi_close_handle_scope(env, scope);
    napi_delete_reference(env, *reference);
    *reference = NULL;
}

struct errand {
    napi_async_work work;
    void (*run)(void *data);
    void *data;
};

static void errand_execute(napi_env env, void *data) {
    struct errand *errand = data;
    (void)env;
    errand->run(errand->data);
}

static void errand_complete(napi_env env, napi_status status, void *data) {
    struct errand *errand = data;
    if (status == napi_cancelled)
        errand->run(errand->data);
    napi_delete_async_work(env, errand->work);
    free(errand);
}

void off_thread(napi_env env, void (*run)(void *data), void *data) {
    struct errand *errand = malloc(sizeof *errand);
    napi_handle_scope scope;
    napi_value name;
    bool queued = false;
    napi_open_handle_scope(env, &scope); /* a callback of libuv has none */
    if (errand != NULL) {
        *errand = (struct errand){.run = run, .data = data};
        if (napi_create_string_utf8(env, "tsvmm", NAPI_AUTO_LENGTH, &name) == napi_ok &&
            napi_create_async_work(env, NULL, name, errand_execute, errand_complete, errand, &errand->work) ==
                napi_ok) {
            queued = napi_queue_async_work(env, errand->work) == napi_ok;
            if (!queued)
                napi_delete_async_work(env, errand->work);
        }
    }
    napi_close_handle_scope(env, scope);
    if (queued)
        return;
    free(errand);
    run(data);
}

bool callback_create(struct callback *callback, napi_env env, napi_value function) {
    napi_value name;
    napi_valuetype type;
    callback->env = env;
    if (napi_typeof(env, function, &type) != napi_ok || type != napi_function ||
        napi_create_string_utf8(env, "tsvmm", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_reference(env, function, 1, &callback->function) != napi_ok)
        return false;
    if (napi_async_init(env, NULL, name, &callback->context) == napi_ok)
        return true;
    napi_delete_reference(env, callback->function);
    return false;
}

void callback_call(struct callback *callback, size_t argc, const int32_t *arguments) {
    napi_env env = callback->env;
    napi_handle_scope scope;
    napi_value function, global, argv[4], result, exception;

    napi_open_handle_scope(env, &scope);
    napi_get_reference_value(env, callback->function, &function);
    napi_get_global(env, &global);
    for (size_t i = 0; i < argc; i++)
        napi_create_int32(env, arguments[i], &argv[i]);
    if (napi_make_callback(env, callback->context, global, function, argc, argv, &result) ==
            napi_pending_exception &&
        napi_get_and_clear_last_exception(env, &exception) == napi_ok)
        napi_fatal_exception(env, exception);
    napi_close_handle_scope(env, scope);
}

void callback_destroy(struct callback *callback) {
    napi_delete_reference(callback->env, callback->function);
    napi_async_destroy(callback->env, callback->context);
}

NAPI_MODULE_INIT() {
#define PROPERTY(name) {#name, NULL, native_##name, NULL, NULL, NULL, napi_enumerable, NULL},
    napi_property_descriptor functions[] = {FUNCTIONS(PROPERTY)};
    napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
    napi_set_named_property(env, exports, "abiVersion", number(env, ABI_VERSION));
    return exports;
}
