/*
 * Memory that is mapped and that nobody needs, given back to the kernel: what malloc keeps, packet
 * slots of a quiet engine, and what only the start read of the program file.
 */
#include "heddle.h"

#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

/* trim(): gives back to the kernel what malloc keeps and nobody uses; nothing without glibc. */
napi_value trim_memory(napi_env env, napi_callback_info info) {
  struct call call;
  if (!begin(&call, env, info, "trim")) {
    return NULL;
  }
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return NULL;
}

/* Whole pages inside [from, to): they are anonymous, so they read as zeroes from then on. */
static int discard_pages(uintptr_t from, uintptr_t to) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t first = (from + page - 1) & ~(page - 1);
  uintptr_t end = to & ~(page - 1);
  return end > first ? madvise((void *)first, end - first, MADV_DONTNEED) : 0;
}

/* discard(arena, at, len): the whole pages of a range; what they held is lost. */
napi_value discard_range(napi_env env, napi_callback_info info) {
  struct call call;
  struct bytes arena;
  int32_t at, len;
  if (!begin(&call, env, info, "discard") || !take_bytes(&call, 0, "arena", &arena) ||
      !take_int(&call, 1, "at", 0, INT32_MAX, &at) ||
      !take_int(&call, 2, "len", 0, INT32_MAX, &len)) {
    return NULL;
  }
  if ((size_t)at + (size_t)len > arena.length) {
    return refuse(&call, "at + len reach beyond the arena's %d bytes", (int)arena.length);
  }
  uintptr_t from = (uintptr_t)arena.data + (uintptr_t)at;
  return discard_pages(from, from + (uintptr_t)len) < 0 ? fail(&call, errno, "madvise") : NULL;
}

/* The program itself comes first. Segments that cannot be written are as they are in its file. */
static int unmap_segments(struct dl_phdr_info *program, size_t size, void *unused) {
  (void)size;
  (void)unused;
  for (int i = 0; i < program->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0) {
      uintptr_t from = program->dlpi_addr + segment->p_vaddr;
      discard_pages(from, from + segment->p_memsz);
    }
  }
  return 1;
}

/* unmapProgram(): takes the pages of the program file out of this process, until they are used again. */
napi_value unmap_program(napi_env env, napi_callback_info info) {
  struct call call;
  if (begin(&call, env, info, "unmapProgram")) {
    dl_iterate_phdr(unmap_segments, NULL);
  }
  return NULL;
}
