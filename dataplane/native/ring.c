/*
 * Rings: many reads of a device in one system call (io_uring).
 *
 * A TUN hands over one packet a read, and where entering the kernel is dear, that is most of what a
 * small packet costs. Here a chunk of reads is put into the ring and handed over at once. None of them
 * waits: each ends during that call, with a packet or with EAGAIN, so nothing of the kernel's writes to
 * the arena when the call is over.
 *
 * Source: io_uring(7), io_uring_setup(2), io_uring_enter(2), include/uapi/linux/io_uring.h.
 */
#include "ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint32_t *queue_word(const struct ring *ring, uint32_t offset) {
  return (uint32_t *)(void *)(ring->queues + offset);
}

void ring_close(struct ring *ring) {
  if (ring->reads != NULL) {
    munmap(ring->reads, ring->reads_size);
  }
  if (ring->queues != NULL) {
    munmap(ring->queues, ring->queues_size);
  }
  if (ring->fd >= 0) {
    close(ring->fd);
  }
  *ring = (struct ring){.fd = -1, .refusal = ring->refusal};
}

static void *map(const struct ring *ring, size_t size, off_t what) {
  void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, what);
  return at == MAP_FAILED ? NULL : at;
}

/* Returns the call that failed, with errno, or NULL. */
static const char *set_up(struct ring *ring) {
  struct io_uring_params *params = &ring->params;
  ring->fd = (int)syscall(SYS_io_uring_setup, RING_CHUNK, params);
  if (ring->fd < 0) {
    return "io_uring_setup";
  }
  if ((params->features & IORING_FEAT_SINGLE_MMAP) == 0) {
    errno = EOPNOTSUPP;
    return "io_uring_setup IORING_FEAT_SINGLE_MMAP";
  }
  size_t submissions = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
  size_t completions = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
  ring->queues_size = submissions > completions ? submissions : completions;
  ring->reads_size = params->sq_entries * sizeof(struct io_uring_sqe);
  ring->queues = map(ring, ring->queues_size, IORING_OFF_SQ_RING);
  ring->reads = map(ring, ring->reads_size, IORING_OFF_SQES);
  if (ring->queues == NULL || ring->reads == NULL) {
    return "mmap io_uring";
  }
  for (uint32_t i = 0; i < params->sq_entries; i++) {
    queue_word(ring, params->sq_off.array)[i] = i;
  }
  return NULL;
}

const char *ring_open(struct ring *ring) {
  *ring = (struct ring){.fd = -1};
  const char *failed = set_up(ring);
  if (failed != NULL) {
    int error = errno;
    ring_close(ring);
    errno = error;
  }
  return failed;
}

static void prepare(struct io_uring_sqe *read, int fd, const struct iovec *room, int index) {
  *read = (struct io_uring_sqe){
      .opcode = IORING_OP_READ,
      .fd = fd,
      .off = (uint64_t)-1, /* a device has no position */
      .addr = (uint64_t)(uintptr_t)room->iov_base,
      .len = (uint32_t)room->iov_len,
      .rw_flags = RWF_NOWAIT, /* O_NONBLOCK alone would have the ring wait for a packet */
      .user_data = (uint64_t)index,
  };
}

/* A read that found nothing, or was disturbed, ends like that; any other error is of the ring or the device. */
static bool is_idle(int error) { return error == EAGAIN || error == EINTR; }

/* Takes the results that are there. Returns how many. */
static int reap(struct ring *ring, ssize_t *results) {
  const struct io_cqring_offsets *at = &ring->params.cq_off;
  const struct io_uring_cqe *queue = (const void *)(ring->queues + at->cqes);
  uint32_t head = *queue_word(ring, at->head);
  uint32_t tail = __atomic_load_n(queue_word(ring, at->tail), __ATOMIC_ACQUIRE);
  int count = (int)(tail - head);
  for (; head != tail; head++) {
    const struct io_uring_cqe *done = &queue[head & (ring->params.cq_entries - 1)];
    bool is_fault = done->res < 0 && !is_idle(-done->res);
    results[done->user_data] = done->res > 0 ? done->res : is_fault ? -1 : 0;
    if (is_fault && ring->refusal == 0) {
      ring->refusal = -done->res;
    }
  }
  __atomic_store_n(queue_word(ring, at->head), tail, __ATOMIC_RELEASE);
  return count;
}

static int enter(const struct ring *ring, int submitted, int awaited) {
  return (int)syscall(SYS_io_uring_enter, ring->fd, submitted, awaited, IORING_ENTER_GETEVENTS,
                      NULL, 0);
}

bool ring_read(struct ring *ring, int fd, const struct iovec *rooms, int count, ssize_t *results) {
  uint32_t *tail = queue_word(ring, ring->params.sq_off.tail);
  uint32_t first = *tail;
  ring->refusal = 0;
  for (int i = 0; i < count; i++) {
    results[i] = 0;
    prepare(&ring->reads[(first + (uint32_t)i) & (ring->params.sq_entries - 1)], fd, rooms + i, i);
  }
  __atomic_store_n(tail, first + (uint32_t)count, __ATOMIC_RELEASE);
  int taken = enter(ring, count, count);
  if (taken < 0 && !is_idle(errno)) {
    ring->refusal = errno;
  }
  if (taken < count) {
    /* What the kernel did not take is not to be done later. */
    __atomic_store_n(tail, *queue_word(ring, ring->params.sq_off.head), __ATOMIC_RELEASE);
  }
  int missing = (taken < 0 ? 0 : taken) - reap(ring, results);
  while (missing > 0) {
    /* A signal came first. The arena is the caller's again only when every read has ended. */
    enter(ring, 0, missing);
    missing -= reap(ring, results);
  }
  return ring->refusal == 0;
}
