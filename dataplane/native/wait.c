/*
 * Waiting: one bounded wait on all descriptors of an engine, and the eventfd that ends it early.
 *
 * An engine thread blocks here and nowhere else. Spinning first saves the sleep and the wake-up of
 * a packet that arrives within a few microseconds; it yields each time, so that a thread on the
 * same core loses nothing.
 */
#include "heddle.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 64, SPIN_MAX_US = 1000000 };

/* eventfd() -> fd */
napi_value open_eventfd(napi_env env, napi_callback_info info) {
  struct call call;
  if (!begin(&call, env, info, "eventfd")) {
    return NULL;
  }
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? fail(&call, errno, "eventfd") : number(&call, fd);
}

/* signal(fd): a counter that is full (EAGAIN) is already readable, which is all that is wanted. */
napi_value signal_eventfd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  const uint64_t one = 1;
  if (!begin(&call, env, info, "signal") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  if (write(fd, &one, sizeof one) < 0 && errno != EAGAIN) {
    return fail(&call, errno, "write");
  }
  return NULL;
}

/* drain(fd) -> whether it had been signalled */
napi_value drain_eventfd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint64_t count;
  if (!begin(&call, env, info, "drain") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  ssize_t got = read(fd, &count, sizeof count);
  if (got < 0 && errno != EAGAIN) {
    return fail(&call, errno, "read");
  }
  napi_value result = NULL;
  napi_get_boolean(env, got > 0, &result);
  return result;
}

/* close(fd) */
napi_value close_fd(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  if (!begin(&call, env, info, "close") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  /* After EINTR Linux has closed the descriptor all the same. */
  if (close(fd) < 0 && errno != EINTR) {
    return fail(&call, errno, "close");
  }
  return NULL;
}

static int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Polls without blocking until something is ready or `us` microseconds have passed. */
static int spin(struct pollfd *polls, nfds_t count, int64_t us) {
  int64_t end = now_us() + us;
  int ready;
  do {
    sched_yield();
    ready = poll(polls, count, 0);
  } while (ready == 0 && now_us() < end);
  return ready;
}

static int poll_until(struct pollfd *polls, nfds_t count, int32_t spin_us, int32_t timeout_ms) {
  int ready = poll(polls, count, 0);
  if (ready != 0 || timeout_ms == 0) {
    return ready;
  }
  if (spin_us > 0) {
    ready = spin(polls, count, spin_us);
    if (ready != 0) {
      return ready;
    }
  }
  return poll(polls, count, timeout_ms);
}

/* wait(fds, revents, spinUs, timeoutMs) -> descriptors ready, 0 after the time or a signal */
napi_value wait_ready(napi_env env, napi_callback_info info) {
  struct call call;
  struct words fds, revents;
  int32_t spin_us, timeout_ms;
  struct pollfd polls[FDS_MAX];
  if (!begin(&call, env, info, "wait") || !take_words(&call, 0, "fds", &fds) ||
      !take_words(&call, 1, "revents", &revents) ||
      !take_int(&call, 2, "spinUs", 0, SPIN_MAX_US, &spin_us) ||
      !take_int(&call, 3, "timeoutMs", -1, INT32_MAX, &timeout_ms)) {
    return NULL;
  }
  if (fds.length > FDS_MAX) {
    return refuse(&call, "more than %d descriptors", FDS_MAX);
  }
  if (revents.length < fds.length) {
    return refuse(&call, "revents is shorter than fds", 0);
  }
  for (size_t i = 0; i < fds.length; i++) {
    polls[i] = (struct pollfd){.fd = word(fds.data + i), .events = POLLIN};
  }
  int ready = poll_until(polls, fds.length, spin_us, timeout_ms);
  if (ready < 0 && errno != EINTR) {
    return fail(&call, errno, "poll");
  }
  for (size_t i = 0; i < fds.length; i++) {
    int32_t bits = ready > 0 ? polls[i].revents : 0;
    if ((bits & POLLNVAL) != 0) {
      return fail(&call, EBADF, "poll");
    }
    revents.data[i] = bits;
  }
  return number(&call, ready < 0 ? 0 : ready);
}
