/*
 * A ring: an io_uring for reads of a device, and nothing of Node.
 */
#ifndef HEDDLE_RING_H
#define HEDDLE_RING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Reads that are made one by one before a ring takes over: it is not worth it for less. Then a first chunk, and most reads of one call. */
enum { READ_ALONE = 2, FIRST_RING_CHUNK = 8, RING_CHUNK = 32 };

struct ring {
  int fd;      /* -1 = closed */
  int refusal; /* errno with which the last call of ring_read was refused, 0 = it was not */
  struct io_uring_params params;
  uint8_t *queues; /* both queues, in one mapping (IORING_FEAT_SINGLE_MMAP) */
  size_t queues_size;
  struct io_uring_sqe *reads;
  size_t reads_size;
};

/* Opens a ring. Returns the call that failed, with errno and the ring closed, or NULL. */
const char *ring_open(struct ring *ring);
void ring_close(struct ring *ring);
/*
 * Reads into `count` rooms, at most RING_CHUNK, one packet each, in one system call and without waiting.
 * A result is the packet's length, 0 where there was none, or -1 where the read failed.
 * Returns whether the ring works: false when the kernel refused it, which it will again.
 */
bool ring_read(struct ring *ring, int fd, const struct iovec *rooms, int count, ssize_t *results);

#endif
