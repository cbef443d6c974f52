/*
 * Receiving: packets from a TUN, datagrams from a socket, into the rows of a batch.
 *
 * A row owns a slot of the arena: `room` bytes from columns[AT], and `before` bytes ahead of them.
 * One call fills as many rows as packets wait. It never blocks.
 */
#include "heddle.h"
#include "ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* A datagram mostly comes alone, or in a train with few others: preparing for 64 takes longer than one. */
enum { FIRST_CHUNK = 4, CHUNK = 64, CONTROL_SIZE = 128 };

struct rows {
  uint8_t *arena;
  size_t arena_length;
  int32_t *columns;
  int32_t capacity;
  int32_t room;
  int32_t before;
};

static bool is_slot(const struct rows *rows, int32_t at) {
  return at >= rows->before && (size_t)at <= rows->arena_length &&
         (size_t)rows->room <= rows->arena_length - (size_t)at;
}

/* Takes (arena, columns, capacity, room) from argument 1 on; `before` is set by the caller. */
static bool take_rows(struct call *call, struct rows *rows) {
  struct bytes arena;
  struct words columns;
  if (!take_bytes(call, 1, "arena", &arena) || !take_words(call, 2, "columns", &columns) ||
      !take_int(call, 3, "capacity", 1, INT32_MAX / COLUMN_COUNT, &rows->capacity) ||
      !take_int(call, 4, "room", 1, INT32_MAX, &rows->room)) {
    return false;
  }
  rows->arena = arena.data;
  rows->arena_length = arena.length;
  rows->columns = columns.data;
  if ((size_t)rows->capacity * COLUMN_COUNT > columns.length) {
    refuse(call, "columns are too short for %d rows", rows->capacity);
    return false;
  }
  for (int32_t row = 0; row < rows->capacity; row++) {
    if (!is_slot(rows, rows->columns[row])) {
      refuse(call, "the slot of row %d lies outside the arena", row);
      return false;
    }
  }
  return true;
}

/* Where row's slot begins, or NULL when another thread has moved it since the check. */
static uint8_t *slot(const struct rows *rows, int32_t row) {
  int32_t at = word(rows->columns + row);
  return is_slot(rows, at) ? rows->arena + at - rows->before : NULL;
}

static void set(const struct rows *rows, int32_t row, enum column column, int32_t value) {
  rows->columns[(size_t)column * (size_t)rows->capacity + (size_t)row] = value;
}

static void clear(const struct rows *rows, int32_t row) {
  for (int column = COLUMN_SEGMENT; column < COLUMN_COUNT; column++) {
    set(rows, row, column, 0);
  }
}

/* Fills a row with what a read brought in; `got` bytes, those before the packet included. */
static void take_packet(const struct rows *rows, int32_t row, ssize_t got) {
  set(rows, row, COLUMN_LEN, got > rows->before ? (int32_t)got - rows->before : 0);
  clear(rows, row);
}

/* Exchanges the slots of two rows. */
static void exchange(const struct rows *rows, int32_t a, int32_t b) {
  int32_t at = rows->columns[a];
  rows->columns[a] = rows->columns[b];
  rows->columns[b] = at;
}

/* A walk over the rows of a batch; it ends where a read finds nothing, or at a fault. */
struct walk {
  struct rows rows;
  int fd;
  int32_t row;      /* the next to be filled */
  bool is_over;     /* nothing more waits */
  bool has_strayed; /* the slot of the row lies outside the arena */
  int error;        /* errno of the last read, 0 = it brought a packet */
};

/* Reads packets one by one until row `end`. */
static void read_alone(struct walk *walk, int32_t end) {
  const struct rows *rows = &walk->rows;
  while (walk->row < end && !walk->is_over) {
    uint8_t *data = slot(rows, walk->row);
    if (data == NULL) {
      walk->has_strayed = walk->is_over = true;
      return;
    }
    ssize_t got = read(walk->fd, data, (size_t)rows->before + (size_t)rows->room);
    walk->error = got < 0 ? errno : 0;
    if (got > 0) {
      take_packet(rows, walk->row++, got);
    } else {
      walk->is_over = true;
    }
  }
}

/*
 * Reads one chunk through a ring. A packet that comes while the reads of a chunk go on may be found by a later
 * one than the first that found none: what it was read into becomes the slot of the next row.
 * Returns whether the ring works.
 */
static bool read_chunk(struct walk *walk, struct ring *ring, int32_t count) {
  struct iovec rooms[RING_CHUNK];
  ssize_t results[RING_CHUNK];
  const struct rows *rows = &walk->rows;
  for (int32_t i = 0; i < count; i++) {
    uint8_t *data = slot(rows, walk->row + i);
    if (data == NULL) {
      walk->has_strayed = walk->is_over = true;
      return true;
    }
    rooms[i] = (struct iovec){data, (size_t)rows->before + (size_t)rows->room};
  }
  int32_t first = walk->row;
  bool works = ring_read(ring, walk->fd, rooms, count, results);
  for (int32_t i = 0; i < count; i++) {
    if (results[i] > 0) {
      exchange(rows, walk->row, first + i);
      take_packet(rows, walk->row++, results[i]);
    }
  }
  walk->is_over = works && walk->row < first + count;
  return works;
}

/* tunRead(fd, arena, columns, capacity, room, before, ring?) -> rows filled, or -1 - rows */
napi_value tun_read(napi_env env, napi_callback_info info) {
  struct call call;
  struct walk walk = {.row = 0};
  struct ring *ring;
  if (!begin(&call, env, info, "tunRead") || !take_fd(&call, 0, &walk.fd) ||
      !take_int(&call, 5, "before", 0, UINT16_MAX, &walk.rows.before) ||
      !take_rows(&call, &walk.rows) || !take_ring(&call, 6, &ring)) {
    return NULL;
  }
  int32_t capacity = walk.rows.capacity;
  bool works = ring != NULL;
  read_alone(&walk, works && capacity > READ_ALONE ? READ_ALONE : capacity);
  for (int32_t chunk = FIRST_RING_CHUNK; works && !walk.is_over && walk.row < capacity; chunk *= 2) {
    int32_t most = chunk < RING_CHUNK ? chunk : RING_CHUNK;
    works = read_chunk(&walk, ring, capacity - walk.row < most ? capacity - walk.row : most);
  }
  read_alone(&walk, capacity); /* where the ring was refused */
  if (walk.has_strayed) {
    return refuse(&call, "the slot of row %d lies outside the arena", walk.row);
  }
  bool is_fault = walk.error != 0 && walk.error != EAGAIN && walk.error != EINTR;
  if (is_fault && walk.row == 0) {
    return fail(&call, walk.error, "read"); /* behind a packet, it is met again by the next call */
  }
  /* A device that refuses a single read as well is not the ring's fault. */
  bool is_refused = ring != NULL && !works && !is_fault;
  return number(&call, is_refused ? -1 - walk.row : walk.row);
}

/* Room for one chunk of datagrams. The iovecs are pointed at the slots anew for each chunk. */
struct inbox {
  struct mmsghdr messages[CHUNK];
  struct iovec iovecs[CHUNK];
  struct sockaddr_in6 names[CHUNK];
  union {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_SIZE];
  } controls[CHUNK];
};

static bool prepare(struct inbox *inbox, const struct rows *rows, int32_t first, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    uint8_t *data = slot(rows, first + i);
    if (data == NULL) {
      return false;
    }
    inbox->iovecs[i] = (struct iovec){.iov_base = data, .iov_len = (size_t)rows->room};
    struct msghdr *header = &inbox->messages[i].msg_hdr;
    memset(header, 0, sizeof *header);
    header->msg_name = inbox->names + i;
    header->msg_namelen = sizeof inbox->names[i];
    header->msg_iov = inbox->iovecs + i;
    header->msg_iovlen = 1;
    header->msg_control = inbox->controls[i].bytes;
    header->msg_controllen = CONTROL_SIZE;
  }
  return true;
}

/* Segment size of a train of datagrams merged by UDP GRO; 0 = the datagram came alone. */
static int32_t segment_size(struct msghdr *header) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(c), sizeof size);
      return size;
    }
  }
  return 0;
}

/* An IPv4 source that reached an IPv6 socket (RFC 4291 §2.5.5.2) is described as IPv4. */
static void describe_source(const struct rows *rows, int32_t row, const struct sockaddr_in6 *v6) {
  if (v6->sin6_family == AF_INET) {
    struct sockaddr_in v4;
    memcpy(&v4, v6, sizeof v4);
    set(rows, row, COLUMN_FAMILY, 4);
    set(rows, row, COLUMN_PORT, ntohs(v4.sin_port));
    set(rows, row, COLUMN_SRC, (int32_t)ntohl(v4.sin_addr.s_addr));
  } else if (v6->sin6_family == AF_INET6) {
    uint32_t address[4];
    memcpy(address, &v6->sin6_addr, sizeof address);
    bool is_mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    set(rows, row, COLUMN_FAMILY, is_mapped ? 4 : 6);
    set(rows, row, COLUMN_PORT, ntohs(v6->sin6_port));
    set(rows, row, COLUMN_SRC, (int32_t)ntohl(address[is_mapped ? 3 : 0]));
    for (int i = 1; i < 4 && !is_mapped; i++) {
      set(rows, row, COLUMN_SRC + i, (int32_t)ntohl(address[i]));
    }
  }
}

static void describe(const struct rows *rows, int32_t row, struct mmsghdr *message,
                     int32_t socket_index) {
  clear(rows, row);
  set(rows, row, COLUMN_LEN, (int32_t)message->msg_len);
  set(rows, row, COLUMN_SEGMENT, segment_size(&message->msg_hdr));
  set(rows, row, COLUMN_TRUNCATED, (message->msg_hdr.msg_flags & MSG_TRUNC) != 0);
  set(rows, row, COLUMN_SOCKET, socket_index);
  if (message->msg_hdr.msg_namelen >= sizeof(struct sockaddr_in)) {
    describe_source(rows, row, message->msg_hdr.msg_name);
  }
}

/* recv(fd, arena, columns, capacity, room, socketIndex) -> rows filled */
napi_value receive(napi_env env, napi_callback_info info) {
  struct call call;
  struct rows rows = {.before = 0};
  struct inbox inbox;
  int fd;
  int32_t socket_index, row = 0;
  if (!begin(&call, env, info, "recv") || !take_fd(&call, 0, &fd) ||
      !take_int(&call, 5, "socketIndex", 0, INT32_MAX, &socket_index) ||
      !take_rows(&call, &rows)) {
    return NULL;
  }
  while (row < rows.capacity) {
    int32_t chunk = row == 0 ? FIRST_CHUNK : CHUNK;
    int32_t asked = rows.capacity - row < chunk ? rows.capacity - row : chunk;
    if (!prepare(&inbox, &rows, row, asked)) {
      return refuse(&call, "a slot lies outside the arena", 0);
    }
    int got = recvmmsg(fd, inbox.messages, (unsigned)asked, MSG_DONTWAIT, NULL);
    if (got < 0 && row == 0 && errno != EAGAIN && errno != EINTR) {
      return fail(&call, errno, "recvmmsg");
    }
    for (int i = 0; i < got; i++) {
      describe(&rows, row + i, inbox.messages + i, socket_index);
    }
    row += got > 0 ? got : 0;
    if (got < asked) {
      break; /* the queue is empty */
    }
  }
  return number(&call, row);
}
