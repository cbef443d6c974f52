/*
 * Sending: the entries of a flush, to a socket or to a TUN.
 *
 * An entry is one message, gathered from pieces of the arena. All entries are checked before the
 * first leaves. An entry that the kernel refuses gets the errno as its result and costs only
 * itself; when the kernel has no room, the rest gets that errno without being tried, since trying
 * would only burn time and put later packets before earlier ones. One that stands for several
 * packets (it has a segment size) ends the call when it is refused, and so does one that is too long
 * for the path to a destination: the caller may want to send it another way before what stands
 * behind it.
 *
 * A socket is one of those that the call was given, by its place; neighbours of one socket leave in one
 * system call, and one that is full costs no more than these.
 */
#include "heddle.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* One chunk: messages of one sendmmsg. 1024 is UIO_MAXIOV, the most one message may have. */
enum { CHUNK = 64, PIECES_MAX = 1024 };

struct order {
  struct bytes arena;
  struct words pieces;
  struct words entries;
  struct bytes names;
  size_t sockets;
  int32_t count;
  int32_t first;
};

struct entry {
  int32_t first;
  int32_t socket;
  int32_t pieces;
  int32_t segment;
  void *name;
  int32_t name_length;
};

/* Takes (arena, pieces, entries, count) from argument 1 on, and `first`, which may be left out. */
static bool take_order(struct call *call, struct order *order, int first_index) {
  if (!take_bytes(call, 1, "arena", &order->arena) ||
      !take_words(call, 2, "pieces", &order->pieces) ||
      !take_words(call, 3, "entries", &order->entries) ||
      !take_int(call, 4, "count", 0, INT32_MAX / ENTRY_STRIDE, &order->count)) {
    return false;
  }
  if ((size_t)order->count * ENTRY_STRIDE > order->entries.length) {
    refuse(call, "entries are too short for %d", order->count);
    return false;
  }
  order->first = 0;
  return is_absent(call, first_index) ||
         take_int(call, first_index, "first", 0, order->count, &order->first);
}

static int32_t field(const struct order *order, int32_t i, enum field field) {
  return word(order->entries.data + (size_t)i * ENTRY_STRIDE + field);
}

static void set_results(const struct order *order, int32_t from, int32_t to, int error) {
  for (int32_t i = from; i < to; i++) {
    order->entries.data[(size_t)i * ENTRY_STRIDE + FIELD_RESULT] = error;
  }
}

/* Finds the destination of entry i in the name table. Returns what is wrong with it, or NULL. */
static const char *load_name(const struct order *order, int32_t i, struct entry *entry) {
  int32_t at = field(order, i, FIELD_NAME);
  entry->name = NULL;
  entry->name_length = 0;
  if (at == NO_NAME) {
    return NULL;
  }
  if (at < 0 || order->names.length < NAME_SIZE || (size_t)at > order->names.length - NAME_SIZE) {
    return "the name of entry %d lies outside the table";
  }
  memcpy(&entry->name_length, order->names.data + at + NAME_LENGTH_AT, sizeof(int32_t));
  if (entry->name_length != sizeof(struct sockaddr_in) &&
      entry->name_length != sizeof(struct sockaddr_in6)) {
    return "the name of entry %d has an impossible length";
  }
  entry->name = order->names.data + at;
  return NULL;
}

/* Reads entry i. Returns what is wrong with it, or NULL. */
static const char *load_entry(const struct order *order, int32_t i, bool is_named,
                              struct entry *entry) {
  entry->first = field(order, i, FIELD_FIRST);
  entry->pieces = field(order, i, FIELD_PIECES);
  entry->segment = field(order, i, FIELD_SEGMENT);
  entry->socket = field(order, i, FIELD_SOCKET);
  if (entry->pieces < 1 || entry->pieces > PIECES_MAX) {
    return "entry %d must have 1 to 1024 pieces";
  }
  size_t last = (size_t)entry->first + (size_t)entry->pieces;
  if (entry->first < 0 || last > order->pieces.length / 2) {
    return "the pieces of entry %d lie outside the list";
  }
  if (entry->segment < 0 || entry->segment > UINT16_MAX) {
    return "the segment size of entry %d must be from 0 to 65535";
  }
  if (entry->socket < 0 || (size_t)entry->socket >= order->sockets) {
    return "entry %d names a socket that is not there";
  }
  return is_named ? load_name(order, i, entry) : NULL;
}

/* Checks the pieces of an entry and, unless `out` is NULL, lays them out there. */
static const char *lay_pieces(const struct order *order, const struct entry *entry,
                              struct iovec *out) {
  const int32_t *pair = order->pieces.data + (size_t)entry->first * 2;
  for (int32_t i = 0; i < entry->pieces; i++, pair += 2) {
    int32_t at = word(pair), len = word(pair + 1);
    if (at < 0 || len < 0 || (size_t)at > order->arena.length ||
        (size_t)len > order->arena.length - (size_t)at) {
      return "a piece of entry %d lies outside the arena";
    }
    if (out != NULL) {
      out[i] = (struct iovec){.iov_base = order->arena.data + at, .iov_len = (size_t)len};
    }
  }
  return NULL;
}

static struct order *with_sockets(struct order *order, size_t sockets) {
  order->sockets = sockets;
  return order;
}

static bool check_order(struct call *call, const struct order *order, bool is_named) {
  for (int32_t i = order->first; i < order->count; i++) {
    struct entry entry;
    const char *wrong = load_entry(order, i, is_named, &entry);
    if (wrong == NULL) {
      wrong = lay_pieces(order, &entry, NULL);
    }
    if (wrong != NULL) {
      refuse(call, wrong, i);
      return false;
    }
  }
  return true;
}

/* The kernel has no room: EAGAIN from a full socket or device queue, ENOBUFS from a full qdisc. */
static bool is_full(int error) { return error == EAGAIN || error == ENOBUFS; }

struct outbox {
  struct mmsghdr messages[CHUNK];
  struct iovec iovecs[PIECES_MAX];
  union {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
  } controls[CHUNK];
  int32_t sockets[CHUNK];
};

static void add_segment_size(struct msghdr *header, uint8_t *control, uint16_t size) {
  header->msg_control = control;
  header->msg_controllen = CMSG_SPACE(sizeof size);
  struct cmsghdr *c = CMSG_FIRSTHDR(header);
  c->cmsg_level = IPPROTO_UDP;
  c->cmsg_type = UDP_SEGMENT;
  c->cmsg_len = CMSG_LEN(sizeof size);
  memcpy(CMSG_DATA(c), &size, sizeof size);
}

/* Builds the chunk that begins with entry `first`. Returns its length, 0 after a throw. */
static int32_t build_chunk(struct call *call, const struct order *order, int32_t first,
                           struct outbox *outbox) {
  int32_t count = 0, used = 0;
  while (count < CHUNK && first + count < order->count) {
    struct entry entry;
    const char *wrong = load_entry(order, first + count, true, &entry);
    if (wrong == NULL && used + entry.pieces > PIECES_MAX) {
      break;
    }
    if (wrong == NULL) {
      wrong = lay_pieces(order, &entry, outbox->iovecs + used);
    }
    if (wrong != NULL) {
      refuse(call, wrong, first + count);
      return 0;
    }
    struct msghdr *header = &outbox->messages[count].msg_hdr;
    memset(header, 0, sizeof *header);
    header->msg_name = entry.name;
    header->msg_namelen = (socklen_t)entry.name_length;
    header->msg_iov = outbox->iovecs + used;
    header->msg_iovlen = (size_t)entry.pieces;
    if (entry.segment != 0) {
      add_segment_size(header, outbox->controls[count].bytes, (uint16_t)entry.segment);
    }
    outbox->sockets[count] = entry.socket;
    used += entry.pieces;
    count++;
  }
  return count;
}

/* Index behind the last message of a chunk that leaves by the same socket as the first, in a row. */
static int32_t same_socket(const struct outbox *outbox, int32_t first, int32_t count) {
  int32_t end = first + 1;
  while (end < count && outbox->sockets[end] == outbox->sockets[first]) {
    end++;
  }
  return end;
}

/* send(fds, arena, pieces, entries, count, names, first?) -> index behind the last entry tried */
napi_value send_entries(napi_env env, napi_callback_info info) {
  struct call call;
  struct order order;
  struct outbox outbox;
  struct words fds;
  if (!begin(&call, env, info, "send") || !take_words(&call, 0, "fds", &fds) ||
      !take_order(&call, &order, 6) || !take_bytes(&call, 5, "names", &order.names) ||
      !check_order(&call, with_sockets(&order, fds.length), true)) {
    return NULL;
  }
  for (int32_t i = order.first; i < order.count;) {
    int32_t chunk = build_chunk(&call, &order, i, &outbox);
    if (chunk == 0) {
      return NULL;
    }
    for (int32_t done = 0; done < chunk;) {
      int fd = word(fds.data + outbox.sockets[done]);
      int32_t end = same_socket(&outbox, done, chunk);
      int got = sendmmsg(fd, outbox.messages + done, (unsigned)(end - done),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
      if (got > 0) {
        set_results(&order, i + done, i + done + got, 0);
        done += got;
      } else if (errno == EBADF || errno == ENOTSOCK) {
        return fail(&call, errno, "sendmmsg");
      } else if (is_full(errno) && fds.length == 1) {
        set_results(&order, i + done, order.count, errno);
        return number(&call, order.count);
      } else if (is_full(errno)) {
        set_results(&order, i + done, i + end, errno);
        done = end;
      } else if (errno != EINTR) {
        set_results(&order, i + done, i + done + 1, errno);
        if (errno == EMSGSIZE || outbox.messages[done].msg_hdr.msg_controllen != 0) {
          return number(&call, i + done + 1);
        }
        done++;
      }
    }
    i += chunk;
  }
  return number(&call, order.count);
}

/* write(fd, arena, pieces, entries, count, first?) -> index behind the last entry tried */
napi_value write_entries(napi_env env, napi_callback_info info) {
  struct call call;
  struct order order;
  struct iovec iovecs[PIECES_MAX];
  int fd;
  if (!begin(&call, env, info, "write") || !take_fd(&call, 0, &fd) ||
      !take_order(&call, &order, 5) || !check_order(&call, with_sockets(&order, 1), false)) {
    return NULL;
  }
  for (int32_t i = order.first; i < order.count; i++) {
    struct entry entry;
    const char *wrong = load_entry(&order, i, false, &entry);
    if (wrong == NULL) {
      wrong = lay_pieces(&order, &entry, iovecs);
    }
    if (wrong != NULL) {
      return refuse(&call, wrong, i);
    }
    ssize_t got;
    do {
      got = writev(fd, iovecs, entry.pieces);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EBADF) {
      return fail(&call, errno, "writev");
    }
    if (got < 0 && is_full(errno)) {
      set_results(&order, i, order.count, errno);
      break;
    }
    /* The kernel takes no bytes at all without asking the device, which would refuse them. */
    int error = got < 0 ? errno : got == 0 ? EINVAL : 0;
    set_results(&order, i, i + 1, error);
    if (error != 0 && entry.segment != 0) {
      return number(&call, i + 1);
    }
  }
  return number(&call, order.count);
}
