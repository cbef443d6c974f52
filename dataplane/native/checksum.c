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

/* checksum(arena, at, len) -> 16-bit sum, network order read as a number */
napi_value checksum(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes arena;
  int32_t at, len;
  if (!begin(&call, env, info, "checksum") || !take_bytes(&call, 0, "arena", &arena) ||
      !take_int(&call, 1, "at", 0, INT32_MAX, &at) ||
      !take_int(&call, 2, "len", 0, INT32_MAX, &len)) {
    return NULL;
  }
  if ((size_t)at > arena.length || (size_t)len > arena.length - (size_t)at) {
    return refuse(&call, "the range lies outside the arena", 0);
  }
  const uint8_t *data = arena.data + at;
  size_t words = (size_t)len / 4;
  uint64_t sum = add_words(data, words);
  uint32_t tail = 0; /* up to three bytes, padded with zero bytes behind them */
  memcpy(&tail, data + words * 4, (size_t)len % 4);
  return number(&call, ntohs(fold(sum + tail)));
}
