// A heap for what native calls allocate, to be preloaded: while qcore_fence() is on, each piece of memory ends in front of a page that may not
// be touched (but for what rounds it to 16 bytes), and freed memory may not be touched again. glibc on Linux.
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

#define PAGE ((size_t)4096)
#define ROOM ((size_t)1 << 38)  // addresses, not memory

static char* region;
static uint32_t* sizes;  // in pages, by the page where a piece begins
static _Atomic size_t used;
static _Atomic int on, unfenced;

int qcore_fence(int more) {
  if (!region) {
    sizes = mmap(NULL, ROOM / PAGE * sizeof *sizes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char* all = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED || (void*)sizes == MAP_FAILED) return -1;
    region = all;
  }
  return atomic_fetch_add(&on, more) + more;
}

// Pieces that were allocated while it was on, and not fenced.
int qcore_unfenced(void) { return unfenced; }

static int is_ours(const void* p) { return region && (const char*)p >= region && (const char*)p < region + ROOM; }

static void* usual(size_t align, size_t size) {
  ++unfenced;
  return __libc_memalign(align, size);
}

static void* fenced(size_t align, size_t size) {
  if (align < 16) align = 16;
  const size_t rounded = (size + align - 1) / align * align;
  const size_t pages = (rounded + PAGE - 1) / PAGE + !rounded;
  const size_t start = atomic_fetch_add(&used, (pages + 1) * PAGE);
  if (align > PAGE || start + (pages + 1) * PAGE > ROOM) return usual(align, size);
  if (mprotect(region + start, pages * PAGE, PROT_READ | PROT_WRITE)) return usual(align, size);
  sizes[start / PAGE] = (uint32_t)pages;
  memset(region + start, 0xA5, pages * PAGE);
  return region + start + pages * PAGE - rounded;
}

void* malloc(size_t size) { return on > 0 ? fenced(16, size) : __libc_malloc(size); }

void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (on <= 0 || __builtin_mul_overflow(count, size, &bytes)) return __libc_calloc(count, size);
  void* p = fenced(16, bytes);
  return p ? memset(p, 0, bytes) : p;
}

void* aligned_alloc(size_t align, size_t size) { return on > 0 ? fenced(align, size) : __libc_memalign(align, size); }
void* memalign(size_t align, size_t size) { return aligned_alloc(align, size); }
int posix_memalign(void** to, size_t align, size_t size) { return (*to = aligned_alloc(align, size)) ? 0 : ENOMEM; }

// A piece begins on its first page, so that page tells its size.
static size_t first_page(const void* p) { return (size_t)((const char*)p - region) / PAGE; }

void free(void* p) {
  if (!is_ours(p)) return __libc_free(p);
  const size_t bytes = sizes[first_page(p)] * PAGE;
  char* start = region + first_page(p) * PAGE;
  const int kept = errno;
  madvise(start, bytes, MADV_DONTNEED);
  mprotect(start, bytes, PROT_NONE);
  errno = kept;
}

void* realloc(void* p, size_t size) {
  if (!p) return malloc(size);
  if (!is_ours(p)) return __libc_realloc(p, size);
  const char* end = region + (first_page(p) + sizes[first_page(p)]) * PAGE;
  const size_t had = (size_t)(end - (const char*)p);
  void* fresh = malloc(size);
  if (fresh) memcpy(fresh, p, had < size ? had : size), free(p);
  return fresh;
}

