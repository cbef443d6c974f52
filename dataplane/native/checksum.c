/*
 * The Internet checksum over a range of bytes (RFC 1071), without the final complement.
 *
 * One's-complement addition does not depend on byte order (RFC 1071 §2), so the words are added as
 * they lie in memory and only the folded result is swapped. 32-bit words go into a 64-bit sum,
 * which cannot overflow below 2^32 words, in a loop that compilers turn into vector code; the
 * clone for AVX2 is chosen at load time where the C library can do that.
 */
#include "heddle.h"

#include <arpa/inet.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__)
#define VECTOR_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define VECTOR_CLONES
#endif

VECTOR_CLONES
static uint64_t add_words(const uint8_t *data, size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t value;
    memcpy(&value, data + i * sizeof value, sizeof value);
    sum += value;
  }
  return sum;
}

static uint16_t fold(uint64_t sum) {
  sum = (sum >> 32) + (sum & UINT32_MAX);
  sum = (sum >> 32) + (sum & UINT32_MAX);
  sum = (sum >> 16) + (sum & UINT16_MAX);
  sum = (sum >> 16) + (sum & UINT16_MAX);
  sum = (sum >> 16) + (sum & UINT16_MAX);
  return (uint16_t)sum;
}

/* The folded sum of a range, in network order read as a number. */
static uint16_t sum_range(const uint8_t *data, size_t len) {
  size_t words = len / 4;
  uint32_t tail = 0; /* up to three bytes, padded with zero bytes behind them */
  memcpy(&tail, data + words * 4, len % 4);
  return ntohs(fold(add_words(data, words) + tail));
}

static bool is_inside(const struct bytes *arena, int32_t at, int32_t len) {
  return at >= 0 && len >= 0 && (size_t)at <= arena->length &&
         (size_t)len <= arena->length - (size_t)at;
}

/* checksum(arena, at, len) -> 16-bit sum */
napi_value checksum(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes arena;
  int32_t at, len;
  if (!begin(&call, env, info, "checksum") || !take_bytes(&call, 0, "arena", &arena) ||
      !take_int(&call, 1, "at", 0, INT32_MAX, &at) ||
      !take_int(&call, 2, "len", 0, INT32_MAX, &len)) {
    return NULL;
  }
  if (!is_inside(&arena, at, len)) {
    return refuse(&call, "the range lies outside the arena", 0);
  }
  return number(&call, sum_range(arena.data + at, (size_t)len));
}

/* Sums of consecutive steps of a range, as far as there is room; the last may be shorter. */
static int32_t sum_steps(const uint8_t *data, int32_t len, int32_t step, int32_t skip, int32_t *out,
                         size_t room) {
  int32_t count = 0;
  for (int64_t at = 0; at < len && (size_t)count < room; at += step) {
    int64_t size = len - at < step ? len - at : step;
    out[count++] = size <= skip ? 0 : sum_range(data + at + skip, (size_t)(size - skip));
  }
  return count;
}

/* checksumSteps(arena, at, len, step, out) -> number of sums */
napi_value checksum_steps(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes arena;
  struct words out;
  int32_t at, len, step;
  if (!begin(&call, env, info, "checksumSteps") || !take_bytes(&call, 0, "arena", &arena) ||
      !take_int(&call, 1, "at", 0, INT32_MAX, &at) ||
      !take_int(&call, 2, "len", 0, INT32_MAX, &len) ||
      !take_int(&call, 3, "step", 1, INT32_MAX / 2, &step) ||
      !take_words(&call, 4, "out", &out)) {
    return NULL;
  }
  if (!is_inside(&arena, at, len)) {
    return refuse(&call, "the range lies outside the arena", 0);
  }
  return number(&call, sum_steps(arena.data + at, len, step, 0, out.data, out.length));
}

/*
 * checksumRows(arena, columns, capacity, count, skip, out) -> number of sums: one for each datagram
 * of each row, a row with a segment size being a train of them, without their first `skip` bytes.
 */
napi_value checksum_rows(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes arena;
  struct words columns, out;
  int32_t capacity, count, skip, total = 0;
  if (!begin(&call, env, info, "checksumRows") || !take_bytes(&call, 0, "arena", &arena) ||
      !take_words(&call, 1, "columns", &columns) ||
      !take_int(&call, 2, "capacity", 0, INT32_MAX / COLUMN_COUNT, &capacity) ||
      !take_int(&call, 3, "count", 0, capacity, &count) ||
      !take_int(&call, 4, "skip", 0, UINT16_MAX, &skip) || !take_words(&call, 5, "out", &out)) {
    return NULL;
  }
  if ((size_t)capacity * COLUMN_COUNT > columns.length) {
    return refuse(&call, "columns are too short for %d rows", capacity);
  }
  for (int32_t row = 0; row < count; row++) {
    int32_t at = word(columns.data + (size_t)COLUMN_AT * capacity + row);
    int32_t len = word(columns.data + (size_t)COLUMN_LEN * capacity + row);
    int32_t step = word(columns.data + (size_t)COLUMN_SEGMENT * capacity + row);
    if (!is_inside(&arena, at, len)) {
      return refuse(&call, "row %d lies outside the arena", row);
    }
    if (step <= 0) {
      step = len > 0 ? len : 1;
    }
    total += sum_steps(arena.data + at, len, step, skip, out.data + total,
                       out.length - (size_t)total);
  }
  return number(&call, total);
}
