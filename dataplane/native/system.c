/*
 * What a daemon needs of the operating system and Node has no call for: a lock on a file that ends
 * with the process, and a datagram to a unix socket (sd_notify).
 */
#include "heddle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* lock(path) -> fd: EWOULDBLOCK when another process holds it. The file stays; closing unlocks. */
napi_value lock_file(napi_env env, napi_callback_info info) {
  struct call call;
  char path[PATH_SIZE];
  if (!begin(&call, env, info, "lock") || !take_text(&call, 0, "path", path, sizeof path)) {
    return NULL;
  }
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    return fail(&call, errno, "open");
  }
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int error = errno;
    close(fd);
    return fail(&call, error, "flock");
  }
  return number(&call, fd);
}

/* notify(path, payload): one datagram; an abstract name begins with a NUL byte. */
napi_value notify_socket(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes path, payload;
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (!begin(&call, env, info, "notify") || !take_bytes(&call, 0, "path", &path) ||
      !take_bytes(&call, 1, "payload", &payload)) {
    return NULL;
  }
  if (path.length == 0 || path.length >= sizeof to.sun_path) {
    return refuse(&call, "path must be 1 to %d bytes long", (int)sizeof to.sun_path - 1);
  }
  memcpy(to.sun_path, path.data, path.length);
  socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.length);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return fail(&call, errno, "socket");
  }
  ssize_t sent = sendto(fd, payload.data, payload.length, MSG_NOSIGNAL | MSG_DONTWAIT,
                        (struct sockaddr *)&to, length);
  int error = errno;
  close(fd);
  return sent < 0 ? fail(&call, error, "sendto") : NULL;
}
