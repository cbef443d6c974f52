/*
 * What the files of the addon share: the layouts that cross the boundary, and the checks of
 * arguments.
 *
 * The addon moves bytes between the kernel and an arena. It knows no packet format, no route and no
 * policy, keeps no state of its own (so any thread may load and use it), and calls no JavaScript.
 * A function checks all of its arguments before it acts. Memory that another thread may change
 * meanwhile is read once, and what was read is what is checked and used.
 */
#ifndef HEDDLE_H
#define HEDDLE_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Columns of a batch: value = columns[COLUMN * capacity + row]. Twin: packet/batch.ts. */
enum column {
  COLUMN_AT,
  COLUMN_LEN,
  COLUMN_SEGMENT,
  COLUMN_TRUNCATED,
  COLUMN_SOCKET,
  COLUMN_FAMILY,
  COLUMN_PORT,
  COLUMN_SRC,
  COLUMN_COUNT = COLUMN_SRC + 4,
};

/* Fields of an entry: value = entries[entry * ENTRY_STRIDE + FIELD]. Twin: packet/entries.ts. */
enum field {
  FIELD_FIRST,
  FIELD_PIECES,
  FIELD_SEGMENT,
  FIELD_NAME,
  FIELD_RESULT,
  FIELD_SOCKET,
  ENTRY_STRIDE = 16,
};

/* A destination: 28 bytes of sockaddr_in or sockaddr_in6, then its length as a native int32. */
enum { NAME_LENGTH_AT = 28, NAME_SIZE = 32, NO_NAME = -1 };

/* sizeof(struct virtio_net_hdr), the header of a TUN with IFF_VNET_HDR; twin: packet/layout.ts. */
enum { VNET_HDR_LEN = 10 };

/* Bytes of a BPF instruction (struct bpf_insn). */
enum { BPF_INSTRUCTION = 8 };

/* One call from JavaScript: its environment, its name for messages, its arguments. */
enum { ARGUMENTS_MAX = 7 };
struct call {
  napi_env env;
  const char *name;
  napi_value argument[ARGUMENTS_MAX];
};

/* A borrowed typed array: valid until the call returns. */
struct bytes {
  uint8_t *data;
  size_t length;
};
struct words {
  int32_t *data;
  size_t length;
};

/* args.c: every take_ function throws and returns false when the argument does not fit. */
bool begin(struct call *call, napi_env env, napi_callback_info info, const char *name);
bool take_int(struct call *call, int index, const char *what, int32_t min, int32_t max,
              int32_t *out);
bool take_fd(struct call *call, int index, int *out);
bool take_bool(struct call *call, int index, const char *what, bool *out);
bool take_text(struct call *call, int index, const char *what, char *out, size_t size);
bool take_bytes(struct call *call, int index, const char *what, struct bytes *out);
bool take_words(struct call *call, int index, const char *what, struct words *out);
bool is_absent(struct call *call, int index);

/* Throws a RangeError `<call>: <what>`, with `number` in the place of %d when there is one. */
napi_value refuse(struct call *call, const char *what, int number);
/* Throws a TypeError `<call>: <what> must be <wanted>`; returns false. */
bool refuse_type(struct call *call, const char *what, const char *wanted);
/* Throws an Error with errno (negative), code and syscall. */
napi_value fail(struct call *call, int error, const char *syscall);

napi_value number(struct call *call, int32_t value);
bool set_number(struct call *call, napi_value object, const char *key, int32_t value);
bool set_text(struct call *call, napi_value object, const char *key, const char *value);

/* The current value of a word that another thread may be writing. */
static inline int32_t word(const int32_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }

/* ring-handle.c: takes a ring that is open; NULL when the argument was left out. */
struct ring;
bool take_ring(struct call *call, int index, struct ring **out);

#define FUNCTION(name) napi_value name(napi_env env, napi_callback_info info)

FUNCTION(open_tun); /* tun.c */
FUNCTION(set_tun_offload);
FUNCTION(tun_name);
FUNCTION(load_filter); /* bpf.c */
FUNCTION(set_tun_steering);
FUNCTION(set_tun_persist);
FUNCTION(udp_socket); /* socket.c */
FUNCTION(raw_socket);
FUNCTION(set_option);
FUNCTION(get_option);
FUNCTION(receive_drops);
FUNCTION(bind_socket);
FUNCTION(connect_socket);
FUNCTION(local_address);
FUNCTION(open_eventfd); /* wait.c */
FUNCTION(signal_eventfd);
FUNCTION(drain_eventfd);
FUNCTION(close_fd);
FUNCTION(wait_ready);
FUNCTION(tun_read); /* receive.c */
FUNCTION(receive);
FUNCTION(open_ring); /* ring-handle.c */
FUNCTION(close_ring);
FUNCTION(send_entries); /* send.c */
FUNCTION(write_entries);
FUNCTION(checksum); /* checksum.c */
FUNCTION(checksum_steps);
FUNCTION(checksum_rows);
FUNCTION(lock_file); /* system.c */
FUNCTION(notify_socket);
FUNCTION(set_inherited);
FUNCTION(become_program);
FUNCTION(trim_memory); /* memory.c */
FUNCTION(discard_range);
FUNCTION(unmap_program);

#endif
