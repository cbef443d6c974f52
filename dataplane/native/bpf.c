/*
 * Loading a BPF program of the kind that reads packets and answers with a number, and handing it to
 * a TUN device. What it does is written by the caller, instruction by instruction.
 *
 * Source: bpf(2), linux/bpf.h, linux/if_tun.h (TUNSETSTEERINGEBPF, Linux 4.16).
 */
#include "heddle.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct bpf_insn) == BPF_INSTRUCTION, "an instruction has 8 bytes");

/* Attempts at loading a program: the verifier gives up with EAGAIN when a signal comes, or work of a closed ring. */
enum { ATTEMPTS = 5 };

/* loadFilter(program) -> fd */
napi_value load_filter(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes program;
  union bpf_attr request;
  if (!begin(&call, env, info, "loadFilter") || !take_bytes(&call, 0, "program", &program)) {
    return NULL;
  }
  if (program.length == 0 || program.length % BPF_INSTRUCTION != 0 ||
      program.length / BPF_INSTRUCTION > BPF_MAXINSNS) {
    return refuse(&call, "program must be 1..4096 instructions of 8 bytes", 0);
  }
  memset(&request, 0, sizeof request);
  request.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  request.insns = (uint64_t)(uintptr_t)program.data;
  request.insn_cnt = (uint32_t)(program.length / BPF_INSTRUCTION);
  request.license = (uint64_t)(uintptr_t) "Apache-2.0";
  long fd = -1;
  for (int i = 0; i < ATTEMPTS && (i == 0 || (fd < 0 && errno == EAGAIN)); i++) {
    fd = syscall(SYS_bpf, BPF_PROG_LOAD, &request, sizeof request);
  }
  return fd < 0 ? fail(&call, errno, "bpf BPF_PROG_LOAD") : number(&call, (int32_t)fd);
}

/* setTunSteering(fd, program) */
napi_value set_tun_steering(napi_env env, napi_callback_info info) {
  struct call call;
  int fd, program;
  if (!begin(&call, env, info, "setTunSteering") || !take_fd(&call, 0, &fd) ||
      !take_fd(&call, 1, &program)) {
    return NULL;
  }
  if (ioctl(fd, TUNSETSTEERINGEBPF, &program) < 0) {
    return fail(&call, errno, "ioctl TUNSETSTEERINGEBPF");
  }
  return NULL;
}
