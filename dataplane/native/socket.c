/*
 * UDP and raw sockets: opening, options, binding, and what the kernel made of it.
 *
 * Every socket is non-blocking and closed on exec. Which options a socket gets is the caller's
 * business; only IP_HDRINCL is part of opening, as it decides what the socket's bytes mean.
 */
#include "heddle.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36 /* linux/in6.h; older C libraries lack it */
#endif

/* linux/sock_diag.h: which counter of SO_MEMINFO is the datagrams dropped for want of room. */
enum { MEMINFO_DROPS = 8, MEMINFO_COUNTERS = 9 };

static bool take_family(struct call *call, int index, int *out) {
  int32_t family;
  if (!take_int(call, index, "family", 4, 6, &family)) {
    return false;
  }
  if (family == 5) {
    refuse(call, "family must be 4 or 6", 0);
    return false;
  }
  *out = family == 4 ? AF_INET : AF_INET6;
  return true;
}

/* udpSocket(family) -> fd */
napi_value udp_socket(napi_env env, napi_callback_info info) {
  struct call call;
  int family;
  if (!begin(&call, env, info, "udpSocket") || !take_family(&call, 0, &family)) {
    return NULL;
  }
  int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
  return fd < 0 ? fail(&call, errno, "socket") : number(&call, fd);
}

/* rawSocket(family, protocol, hdrIncl) -> fd */
napi_value raw_socket(napi_env env, napi_callback_info info) {
  struct call call;
  int family;
  int32_t protocol;
  bool hdr_incl;
  if (!begin(&call, env, info, "rawSocket") || !take_family(&call, 0, &family) ||
      !take_int(&call, 1, "protocol", 0, 255, &protocol) ||
      !take_bool(&call, 2, "hdrIncl", &hdr_incl)) {
    return NULL;
  }
  int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) {
    return fail(&call, errno, "socket");
  }
  int on = hdr_incl;
  int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  int option = family == AF_INET ? IP_HDRINCL : IPV6_HDRINCL;
  if (setsockopt(fd, level, option, &on, sizeof on) < 0) {
    int error = errno;
    close(fd);
    return fail(&call, error, "setsockopt");
  }
  return number(&call, fd);
}

static bool take_option(struct call *call, int *fd, int32_t *level, int32_t *name) {
  return take_fd(call, 0, fd) && take_int(call, 1, "level", 0, INT32_MAX, level) &&
         take_int(call, 2, "name", 0, INT32_MAX, name);
}

/* setOption(fd, level, name, value) */
napi_value set_option(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  int32_t level, name, value;
  if (!begin(&call, env, info, "setOption") || !take_option(&call, &fd, &level, &name) ||
      !take_int(&call, 3, "value", INT32_MIN, INT32_MAX, &value)) {
    return NULL;
  }
  if (setsockopt(fd, level, name, &value, sizeof value) < 0) {
    return fail(&call, errno, "setsockopt");
  }
  return NULL;
}

/* getOption(fd, level, name) -> value */
napi_value get_option(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  int32_t level, name, value = 0;
  socklen_t length = sizeof value;
  if (!begin(&call, env, info, "getOption") || !take_option(&call, &fd, &level, &name)) {
    return NULL;
  }
  if (getsockopt(fd, level, name, &value, &length) < 0) {
    return fail(&call, errno, "getsockopt");
  }
  return number(&call, value);
}

/* receiveDrops(fd) -> datagrams dropped because the receive buffer was full, modulo 2^32 */
napi_value receive_drops(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  uint32_t counters[MEMINFO_COUNTERS] = {0};
  socklen_t length = sizeof counters;
  if (!begin(&call, env, info, "receiveDrops") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, counters, &length) < 0) {
    return fail(&call, errno, "getsockopt");
  }
  napi_value result = NULL;
  napi_create_uint32(env, counters[MEMINFO_DROPS], &result);
  return result;
}

/* Large enough for either family; the first member of both structs is the family. */
union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static bool parse_address(const char *text, int family, int port, unsigned scope,
                          union address *out, socklen_t *length) {
  memset(out, 0, sizeof *out);
  if (family == AF_INET) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)port);
    *length = sizeof out->v4;
    return inet_pton(AF_INET, text, &out->v4.sin_addr) == 1;
  }
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons((uint16_t)port);
  *length = sizeof out->v6;
  if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) != 1) {
    return false;
  }
  if (IN6_IS_ADDR_LINKLOCAL(&out->v6.sin6_addr)) {
    out->v6.sin6_scope_id = scope;
  }
  return true;
}

/* Takes (address, port) from argument 1 on: an address of the socket's own family. */
static bool take_address(struct call *call, int fd, unsigned scope, union address *address,
                         socklen_t *length) {
  int family = 0;
  int32_t port;
  char text[INET6_ADDRSTRLEN];
  if (!take_text(call, 1, "address", text, sizeof text) ||
      !take_int(call, 2, "port", 0, UINT16_MAX, &port)) {
    return false;
  }
  *length = sizeof family;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, length) < 0) {
    fail(call, errno, "getsockopt");
    return false;
  }
  if (!parse_address(text, family, port, scope, address, length)) {
    refuse(call, "address is not an IPv%d address", family == AF_INET ? 4 : 6);
    return false;
  }
  return true;
}

/* bind(fd, address, port, device?) */
napi_value bind_socket(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  char device[IFNAMSIZ] = "";
  union address address;
  socklen_t length;
  if (!begin(&call, env, info, "bind") || !take_fd(&call, 0, &fd) ||
      (!is_absent(&call, 3) && !take_text(&call, 3, "device", device, sizeof device)) ||
      !take_address(&call, fd, if_nametoindex(device), &address, &length)) {
    return NULL;
  }
  if (device[0] != 0 &&
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0) {
    return fail(&call, errno, "setsockopt SO_BINDTODEVICE");
  }
  if (bind(fd, &address.any, length) < 0) {
    return fail(&call, errno, "bind");
  }
  return NULL;
}

/* connect(fd, address, port) */
napi_value connect_socket(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  union address address;
  socklen_t length;
  if (!begin(&call, env, info, "connect") || !take_fd(&call, 0, &fd) ||
      !take_address(&call, fd, 0, &address, &length)) {
    return NULL;
  }
  if (connect(fd, &address.any, length) < 0) {
    return fail(&call, errno, "connect");
  }
  return NULL;
}

/* localAddress(fd) -> { family, address, port } */
napi_value local_address(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  union address address;
  socklen_t length = sizeof address;
  char text[INET6_ADDRSTRLEN];
  if (!begin(&call, env, info, "localAddress") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  memset(&address, 0, sizeof address);
  if (getsockname(fd, &address.any, &length) < 0) {
    return fail(&call, errno, "getsockname");
  }
  bool is_v4 = address.any.sa_family == AF_INET;
  const void *bits = is_v4 ? (const void *)&address.v4.sin_addr : &address.v6.sin6_addr;
  if (inet_ntop(address.any.sa_family, bits, text, sizeof text) == NULL) {
    return fail(&call, errno, "inet_ntop");
  }
  uint16_t port = is_v4 ? address.v4.sin_port : address.v6.sin6_port;
  napi_value result;
  if (napi_create_object(env, &result) != napi_ok ||
      !set_number(&call, result, "family", is_v4 ? 4 : 6) ||
      !set_text(&call, result, "address", text) ||
      !set_number(&call, result, "port", ntohs(port))) {
    return NULL;
  }
  return result;
}
