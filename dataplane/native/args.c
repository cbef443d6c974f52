/*
 * Arguments and errors: the only file that converts between JavaScript values and C ones.
 *
 * Numbers are taken strictly: a fraction, NaN or a value outside its range is refused and never
 * wrapped, since most of them end up in an address computation.
 */
#include "heddle.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ERRNO_NAMES(NAME)                                                                          \
  NAME(EPERM) NAME(ENOENT) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(EBADF) NAME(EAGAIN)              \
  NAME(ENOMEM) NAME(EACCES) NAME(EFAULT) NAME(EBUSY) NAME(EEXIST) NAME(ENODEV) NAME(EINVAL)        \
  NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(ENOSPC) NAME(EPIPE) NAME(EDOM) NAME(ERANGE)          \
  NAME(ENOSYS) NAME(EBADFD) NAME(ENOTSOCK) NAME(EDESTADDRREQ) NAME(EMSGSIZE) NAME(EPROTOTYPE)      \
  NAME(ENOPROTOOPT) NAME(EPROTONOSUPPORT) NAME(ESOCKTNOSUPPORT) NAME(EOPNOTSUPP)                   \
  NAME(EAFNOSUPPORT) NAME(EADDRINUSE) NAME(EADDRNOTAVAIL) NAME(ENETDOWN) NAME(ENETUNREACH)         \
  NAME(ECONNRESET) NAME(ENOBUFS) NAME(EISCONN) NAME(ENOTCONN) NAME(ETIMEDOUT) NAME(ECONNREFUSED)   \
  NAME(EHOSTDOWN) NAME(EHOSTUNREACH) NAME(ENOTDIR) NAME(EISDIR) NAME(EROFS) NAME(ELOOP)           \
  NAME(ENAMETOOLONG)

static const char *errno_name(int error) {
  switch (error) {
#define CASE(name)                                                                                 \
  case name:                                                                                       \
    return #name;
    ERRNO_NAMES(CASE)
#undef CASE
  default:
    return "EUNKNOWN";
  }
}

bool begin(struct call *call, napi_env env, napi_callback_info info, const char *name) {
  size_t count = ARGUMENTS_MAX;
  call->env = env;
  call->name = name;
  return napi_get_cb_info(env, info, &count, call->argument, NULL, NULL) == napi_ok;
}

bool refuse_type(struct call *call, const char *what, const char *wanted) {
  char text[160];
  snprintf(text, sizeof text, "%s: %s must be %s", call->name, what, wanted);
  napi_throw_type_error(call->env, "ERR_INVALID_ARG_TYPE", text);
  return false;
}

napi_value refuse(struct call *call, const char *what, int number) {
  char text[160];
  int used = snprintf(text, sizeof text, "%s: ", call->name);
  const char *mark = strstr(what, "%d");
  if (mark == NULL) {
    snprintf(text + used, sizeof text - (size_t)used, "%s", what);
  } else {
    snprintf(text + used, sizeof text - (size_t)used, "%.*s%d%s", (int)(mark - what), what, number,
             mark + 2);
  }
  napi_throw_range_error(call->env, "ERR_OUT_OF_RANGE", text);
  return NULL;
}

napi_value fail(struct call *call, int error, const char *syscall) {
  const char *name = errno_name(error);
  char text[160];
  napi_value code, message, object;
  snprintf(text, sizeof text, "%s: %s, %s", name, strerror(error), syscall);
  if (napi_create_string_utf8(call->env, name, NAPI_AUTO_LENGTH, &code) == napi_ok &&
      napi_create_string_utf8(call->env, text, NAPI_AUTO_LENGTH, &message) == napi_ok &&
      napi_create_error(call->env, code, message, &object) == napi_ok &&
      set_number(call, object, "errno", -error) && set_text(call, object, "syscall", syscall)) {
    napi_throw(call->env, object);
  }
  return NULL;
}

bool take_int(struct call *call, int index, const char *what, int32_t min, int32_t max,
              int32_t *out) {
  double value;
  if (napi_get_value_double(call->env, call->argument[index], &value) != napi_ok) {
    return refuse_type(call, what, "a number");
  }
  if (!(value >= min && value <= max) || floor(value) != value) {
    char text[96];
    snprintf(text, sizeof text, "%s must be an integer from %d to %d", what, min, max);
    refuse(call, text, 0);
    return false;
  }
  *out = (int32_t)value;
  return true;
}

bool take_fd(struct call *call, int index, int *out) {
  return take_int(call, index, "fd", 0, INT32_MAX, out);
}

bool take_bool(struct call *call, int index, const char *what, bool *out) {
  return napi_get_value_bool(call->env, call->argument[index], out) == napi_ok ||
         refuse_type(call, what, "a boolean");
}

bool take_text(struct call *call, int index, const char *what, char *out, size_t size) {
  size_t length, copied;
  napi_value value = call->argument[index];
  if (napi_get_value_string_utf8(call->env, value, NULL, 0, &length) != napi_ok) {
    return refuse_type(call, what, "a string");
  }
  if (length >= size) {
    char text[96];
    snprintf(text, sizeof text, "%s has more than %d bytes", what, (int)size - 1);
    refuse(call, text, 0);
    return false;
  }
  if (napi_get_value_string_utf8(call->env, value, out, size, &copied) != napi_ok ||
      strlen(out) != length) {
    return refuse_type(call, what, "a string without NUL");
  }
  return true;
}

/* Works over an ArrayBuffer and over a SharedArrayBuffer. */
static bool take_array(struct call *call, int index, napi_typedarray_type type, void **data,
                       size_t *length) {
  bool is_array;
  napi_typedarray_type actual;
  return napi_is_typedarray(call->env, call->argument[index], &is_array) == napi_ok && is_array &&
         napi_get_typedarray_info(call->env, call->argument[index], &actual, length, data, NULL,
                                  NULL) == napi_ok &&
         actual == type;
}

bool take_bytes(struct call *call, int index, const char *what, struct bytes *out) {
  void *data = NULL;
  bool fits = take_array(call, index, napi_uint8_array, &data, &out->length);
  out->data = data;
  return fits || refuse_type(call, what, "a Uint8Array");
}

bool take_words(struct call *call, int index, const char *what, struct words *out) {
  void *data = NULL;
  bool fits = take_array(call, index, napi_int32_array, &data, &out->length);
  out->data = data;
  return fits || refuse_type(call, what, "an Int32Array");
}

bool is_absent(struct call *call, int index) {
  napi_valuetype type;
  return napi_typeof(call->env, call->argument[index], &type) == napi_ok && type == napi_undefined;
}

napi_value number(struct call *call, int32_t value) {
  napi_value result = NULL;
  napi_create_int32(call->env, value, &result);
  return result;
}

bool set_number(struct call *call, napi_value object, const char *key, int32_t value) {
  napi_value property;
  return napi_create_int32(call->env, value, &property) == napi_ok &&
         napi_set_named_property(call->env, object, key, property) == napi_ok;
}

bool set_text(struct call *call, napi_value object, const char *key, const char *value) {
  napi_value property;
  return napi_create_string_utf8(call->env, value, NAPI_AUTO_LENGTH, &property) == napi_ok &&
         napi_set_named_property(call->env, object, key, property) == napi_ok;
}
