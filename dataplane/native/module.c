/*
 * The addon's face: its functions, the layouts they use, and the kernel's constants by name.
 *
 * Layouts and constants come from the C headers, so that nothing is typed twice; a test compares
 * the layouts with their TypeScript twins. The module has no state: each thread that loads it gets
 * its own exports object and shares nothing.
 */
#include "heddle.h"
#include "ring.h"

#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

_Static_assert(sizeof(struct virtio_net_hdr) == VNET_HDR_LEN, "virtio_net_hdr has 10 bytes");
_Static_assert(sizeof(struct sockaddr_in6) == NAME_LENGTH_AT, "sockaddr_in6 has 28 bytes");

struct constant {
  const char *name;
  int32_t value;
};

static const struct constant columns[] = {
    {"AT", COLUMN_AT},
    {"LEN", COLUMN_LEN},
    {"SEGMENT", COLUMN_SEGMENT},
    {"TRUNCATED", COLUMN_TRUNCATED},
    {"SOCKET", COLUMN_SOCKET},
    {"FAMILY", COLUMN_FAMILY},
    {"PORT", COLUMN_PORT},
    {"SRC", COLUMN_SRC},
    {NULL, 0},
};

static const struct constant fields[] = {
    {"FIRST", FIELD_FIRST},
    {"PIECES", FIELD_PIECES},
    {"SEGMENT", FIELD_SEGMENT},
    {"NAME", FIELD_NAME},
    {"RESULT", FIELD_RESULT},
    {"SOCKET", FIELD_SOCKET},
    {NULL, 0},
};

static const struct constant layout[] = {
    {"COLUMN_COUNT", COLUMN_COUNT},
    {"ENTRY_STRIDE", ENTRY_STRIDE},
    {"NAME_SIZE", NAME_SIZE},
    {"NAME_LENGTH_AT", NAME_LENGTH_AT},
    {"VNET_HDR_LEN", VNET_HDR_LEN},
    {"READ_ALONE", READ_ALONE},
    {NULL, 0},
};

/* Debian 12's headers lack the two USO flags (if_tun.h of Linux 6.2). */
enum { TUN_OFFLOAD_CSUM = 1, TUN_OFFLOAD_TSO4 = 2, TUN_OFFLOAD_TSO6 = 4 };
enum { TUN_OFFLOAD_USO4 = 0x20, TUN_OFFLOAD_USO6 = 0x40 };

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SAME(name) {#name, name}
static const struct constant constants[] = {
    SAME(SOL_SOCKET),
    SAME(SO_REUSEADDR),
    SAME(SO_REUSEPORT),
    SAME(SO_ATTACH_BPF),
    SAME(SO_ATTACH_REUSEPORT_EBPF),
    SAME(SO_RCVBUF),
    SAME(SO_SNDBUF),
    SAME(SO_RCVBUFFORCE),
    SAME(SO_SNDBUFFORCE),
    SAME(IPPROTO_IP),
    SAME(IP_TOS),
    SAME(IP_TTL),
    SAME(IP_HDRINCL),
    SAME(IP_MTU),
    SAME(IP_MTU_DISCOVER),
    SAME(IP_PMTUDISC_DONT),
    SAME(IP_PMTUDISC_WANT),
    SAME(IP_PMTUDISC_DO),
    SAME(IPPROTO_IPV6),
    SAME(IPV6_V6ONLY),
    SAME(IPV6_MTU),
    SAME(IPV6_MTU_DISCOVER),
    SAME(IPPROTO_UDP),
    SAME(UDP_SEGMENT),
    SAME(UDP_GRO),
    SAME(POLLIN),
    SAME(POLLERR),
    SAME(POLLHUP),
    {"TUN_F_CSUM", TUN_OFFLOAD_CSUM},
    {"TUN_F_TSO4", TUN_OFFLOAD_TSO4},
    {"TUN_F_TSO6", TUN_OFFLOAD_TSO6},
    {"TUN_F_USO4", TUN_OFFLOAD_USO4},
    {"TUN_F_USO6", TUN_OFFLOAD_USO6},
    {NULL, 0},
};

static bool define_constants(struct call *call, napi_value exports, const char *name,
                             const struct constant *list) {
  napi_value object;
  if (napi_create_object(call->env, &object) != napi_ok) {
    return false;
  }
  for (; list->name != NULL; list++) {
    if (!set_number(call, object, list->name, list->value)) {
      return false;
    }
  }
  return napi_object_freeze(call->env, object) == napi_ok &&
         napi_set_named_property(call->env, exports, name, object) == napi_ok;
}

#define METHOD(name, function) {name, NULL, function, NULL, NULL, NULL, napi_enumerable, NULL}

static const napi_property_descriptor methods[] = {
    METHOD("openTun", open_tun),
    METHOD("setTunOffload", set_tun_offload),
    METHOD("loadFilter", load_filter),
    METHOD("setTunSteering", set_tun_steering),
    METHOD("tunName", tun_name),
    METHOD("setTunPersist", set_tun_persist),
    METHOD("udpSocket", udp_socket),
    METHOD("rawSocket", raw_socket),
    METHOD("setOption", set_option),
    METHOD("getOption", get_option),
    METHOD("receiveDrops", receive_drops),
    METHOD("bind", bind_socket),
    METHOD("connect", connect_socket),
    METHOD("localAddress", local_address),
    METHOD("setInherited", set_inherited),
    METHOD("become", become_program),
    METHOD("eventfd", open_eventfd),
    METHOD("signal", signal_eventfd),
    METHOD("drain", drain_eventfd),
    METHOD("close", close_fd),
    METHOD("wait", wait_ready),
    METHOD("tunRead", tun_read),
    METHOD("openRing", open_ring),
    METHOD("closeRing", close_ring),
    METHOD("recv", receive),
    METHOD("send", send_entries),
    METHOD("write", write_entries),
    METHOD("checksum", checksum),
    METHOD("checksumSteps", checksum_steps),
    METHOD("checksumRows", checksum_rows),
    METHOD("lock", lock_file),
    METHOD("notify", notify_socket),
    METHOD("trim", trim_memory),
    METHOD("discard", discard_range),
    METHOD("unmapProgram", unmap_program),
};

NAPI_MODULE_INIT() {
  struct call call = {.env = env, .name = "heddle"};
  if (napi_define_properties(env, exports, sizeof methods / sizeof methods[0], methods) !=
          napi_ok ||
      !define_constants(&call, exports, "columns", columns) ||
      !define_constants(&call, exports, "fields", fields) ||
      !define_constants(&call, exports, "layout", layout) ||
      !define_constants(&call, exports, "constants", constants)) {
    return NULL;
  }
  return exports;
}
