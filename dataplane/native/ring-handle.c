/*
 * Rings as JavaScript holds them: an object of its own around each, which closes it at the latest when nobody
 * has it any more. A ring belongs to the thread that opened it.
 */
#include "heddle.h"
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

static const napi_type_tag RING_TAG = {0x6865646c652d7269, 0x6e672d696f5f7572};

static void finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  ring_close(data);
  free(data);
}

/* openRing() -> ring */
napi_value open_ring(napi_env env, napi_callback_info info) {
  struct call call;
  napi_value object;
  if (!begin(&call, env, info, "openRing")) {
    return NULL;
  }
  struct ring *ring = malloc(sizeof *ring);
  if (ring == NULL) {
    return fail(&call, ENOMEM, "malloc");
  }
  const char *failed = ring_open(ring);
  if (failed != NULL) {
    int error = errno;
    free(ring);
    return fail(&call, error, failed);
  }
  if (napi_create_object(env, &object) != napi_ok ||
      napi_wrap(env, object, ring, finalize, NULL, NULL) != napi_ok) {
    finalize(env, ring, NULL);
    return NULL;
  }
  return napi_type_tag_object(env, object, &RING_TAG) == napi_ok ? object : NULL;
}

static bool take_present_ring(struct call *call, int index, struct ring **out) {
  bool is_ring = false;
  void *data;
  if (napi_check_object_type_tag(call->env, call->argument[index], &RING_TAG, &is_ring) !=
          napi_ok ||
      !is_ring || napi_unwrap(call->env, call->argument[index], &data) != napi_ok) {
    return refuse_type(call, "ring", "one that openRing returned");
  }
  *out = data;
  if ((*out)->fd < 0) {
    fail(call, EBADF, "io_uring_enter");
    return false;
  }
  return true;
}

bool take_ring(struct call *call, int index, struct ring **out) {
  *out = NULL;
  return is_absent(call, index) || take_present_ring(call, index, out);
}

/* closeRing(ring) -> errno of what was refused */
napi_value close_ring(napi_env env, napi_callback_info info) {
  struct call call;
  struct ring *ring = NULL;
  if (!begin(&call, env, info, "closeRing") || !take_present_ring(&call, 0, &ring)) {
    return NULL;
  }
  ring_close(ring);
  return number(&call, ring->refusal);
}
