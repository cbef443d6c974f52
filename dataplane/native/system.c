/*
 * What a daemon needs of the operating system and Node has no call for: a lock on a file that ends
 * with the process, a datagram to a unix socket (sd_notify), and becoming another program.
 */
#include "heddle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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

/* setInherited(fd, isInherited): whether other programs get it, those started and the one become. */
napi_value set_inherited(napi_env env, napi_callback_info info) {
  struct call call;
  int fd;
  bool is_inherited;
  if (!begin(&call, env, info, "setInherited") || !take_fd(&call, 0, &fd) ||
      !take_bool(&call, 1, "isInherited", &is_inherited)) {
    return NULL;
  }
  return fcntl(fd, F_SETFD, is_inherited ? 0 : FD_CLOEXEC) < 0 ? fail(&call, errno, "fcntl") : NULL;
}

/* Pointers to texts that each end in a NUL byte, then NULL; to be freed. */
static char **split_texts(const struct bytes *texts) {
  size_t count = 0;
  for (size_t i = 0; i < texts->length; i++) {
    count += texts->data[i] == 0;
  }
  char **list = calloc(count + 1, sizeof *list);
  size_t at = 0;
  for (size_t i = 0; list != NULL && i < count; i++) {
    list[i] = (char *)texts->data + at;
    at += strlen(list[i]) + 1;
  }
  return list;
}

static bool take_texts(struct call *call, int index, const char *what, struct bytes *out) {
  if (!take_bytes(call, index, what, out)) {
    return false;
  }
  if (out->length > 0 && out->data[out->length - 1] != 0) {
    refuse(call, "the last text has no NUL at its end", 0);
    return false;
  }
  return true;
}

/* become(path, arguments, environment): execve. Returns only when the kernel refuses. */
napi_value become_program(napi_env env, napi_callback_info info) {
  struct call call;
  char path[PATH_SIZE];
  struct bytes arguments, environment;
  if (!begin(&call, env, info, "become") || !take_text(&call, 0, "path", path, sizeof path) ||
      !take_texts(&call, 1, "arguments", &arguments) ||
      !take_texts(&call, 2, "environment", &environment)) {
    return NULL;
  }
  char **argv = split_texts(&arguments), **envp = split_texts(&environment);
  int error = ENOMEM;
  if (argv != NULL && envp != NULL) {
    execve(path, argv, envp);
    error = errno;
  }
  free(argv);
  free(envp);
  return fail(&call, error, "execve");
}
