/*
 * TUN devices: opening one, or one more queue of one, switching its offloads, and whether it stays.
 *
 * Source: Linux Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.
 */
#include "heddle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* openTun(pattern, vnetHdr, multiQueue) -> { fd, name } */
napi_value open_tun(napi_env env, napi_callback_info info) {
  struct call call;
  struct ifreq request;
  bool vnet_hdr, multi_queue;
  memset(&request, 0, sizeof request);
  if (!begin(&call, env, info, "openTun") ||
      !take_text(&call, 0, "pattern", request.ifr_name, IFNAMSIZ) ||
      !take_bool(&call, 1, "vnetHdr", &vnet_hdr) ||
      !take_bool(&call, 2, "multiQueue", &multi_queue)) {
    return NULL;
  }
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) {
    return fail(&call, errno, "open /dev/net/tun");
  }
  request.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | (vnet_hdr ? IFF_VNET_HDR : 0) |
                              (multi_queue ? IFF_MULTI_QUEUE : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int error = errno;
    close(fd);
    return fail(&call, error, "ioctl TUNSETIFF");
  }
  request.ifr_name[IFNAMSIZ - 1] = 0;
  napi_value result;
  if (napi_create_object(env, &result) != napi_ok || !set_number(&call, result, "fd", fd) ||
      !set_text(&call, result, "name", request.ifr_name)) {
    close(fd);
    return NULL;
  }
  return result;
}

/* setTunOffload(fd, mask) */
napi_value set_tun_offload(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  int32_t mask;
  if (!begin(&call, env, info, "setTunOffload") || !take_fd(&call, 0, &fd) ||
      !take_int(&call, 1, "mask", 0, INT32_MAX, &mask)) {
    return NULL;
  }
  if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)mask) < 0) {
    return fail(&call, errno, "ioctl TUNSETOFFLOAD");
  }
  return NULL;
}

/* tunName(fd) -> name: EBADFD when the device was deleted. */
napi_value tun_name(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  struct ifreq request = {0};
  if (!begin(&call, env, info, "tunName") || !take_fd(&call, 0, &fd)) {
    return NULL;
  }
  if (ioctl(fd, TUNGETIFF, &request) < 0) {
    return fail(&call, errno, "ioctl TUNGETIFF");
  }
  napi_value name;
  size_t length = strnlen(request.ifr_name, IFNAMSIZ);
  return napi_create_string_utf8(env, request.ifr_name, length, &name) == napi_ok ? name : NULL;
}

/* setTunPersist(fd, isKept) */
napi_value set_tun_persist(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  bool is_kept;
  if (!begin(&call, env, info, "setTunPersist") || !take_fd(&call, 0, &fd) ||
      !take_bool(&call, 1, "isKept", &is_kept)) {
    return NULL;
  }
  if (ioctl(fd, TUNSETPERSIST, (unsigned long)is_kept) < 0) {
    return fail(&call, errno, "ioctl TUNSETPERSIST");
  }
  return NULL;
}
