/*
 * The addon's table of functions, and what its files share. Nothing here waits.
 */
#include "addon.h"

double arg_number(napi_env env, napi_value value) {
    double result = 0;
    napi_get_value_double(env, value, &result);
    return result;
}

bool arg_bool(napi_env env, napi_value value) {
    bool result = false;
    napi_get_value_bool(env, value, &result);
    return result;
}

void *arg_handle(napi_env env, napi_value value) {
    void *result = NULL;
    if (napi_get_value_external(env, value, &result) != napi_ok)
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "Cannot use an argument that is no handle");
    return result;
}

napi_value throw_errno(napi_env env, const char *attempt, int error) {
    char message[256];
    snprintf(message, sizeof message, "Cannot %s: %s", attempt, uv_strerror(-error));
    napi_throw_error(env, uv_err_name(-error), message);
    return NULL;
}

napi_value number(napi_env env, double value) {
    napi_value result = NULL;
    napi_create_double(env, value, &result);
    return result;
}

napi_value handle(napi_env env, void *pointer) {
    napi_value result = NULL;
    napi_create_external(env, pointer, NULL, NULL, &result);
    return result;
}

void set(napi_env env, napi_value object, const char *name, napi_value value) {
    napi_set_named_property(env, object, name, value);
}

napi_value buffer(napi_env env, void *memory, size_t bytes, napi_ref *reference) {
    napi_value result = NULL;
    *reference = NULL;
    if (napi_create_external_arraybuffer(env, memory, bytes, NULL, NULL, &result) != napi_ok)
        return NULL;
    napi_create_reference(env, result, 1, reference);
    return result;
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
    napi_value name;
    if (errand != NULL) {
        *errand = (struct errand){.run = run, .data = data};
        if (napi_create_string_utf8(env, "tsvmm", NAPI_AUTO_LENGTH, &name) == napi_ok &&
            napi_create_async_work(env, NULL, name, errand_execute, errand_complete, errand, &errand->work) ==
                napi_ok) {
            if (napi_queue_async_work(env, errand->work) == napi_ok)
                return;
            napi_delete_async_work(env, errand->work);
        }
        free(errand);
    }
    run(data);
}

void callback_create(struct callback *callback, napi_env env, napi_value function) {
    napi_value name;
    callback->env = env;
    napi_create_reference(env, function, 1, &callback->function);
    napi_create_string_utf8(env, "tsvmm", NAPI_AUTO_LENGTH, &name);
    napi_async_init(env, NULL, name, &callback->context);
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
    set(env, exports, "abiVersion", number(env, ABI_VERSION));
    return exports;
}
