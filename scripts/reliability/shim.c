/* A library for LD_PRELOAD that counts, records and fails a process's calls on one folder.
 *
 * It stands between the process (Python, HDF5, torch) and the C library. Calls that concern a
 * file below the watched folder are numbered from 1; everything else passes through untouched,
 * and so does everything until shim_watch() is called. The process itself drives it, by ctypes:
 *
 *   shim_watch(folder)    begin, or end with NULL; numbers start again
 *   shim_fail(n, mode, error, then)
 *                         the n-th call goes wrong, by `mode`; if `then` is not 0, so does every
 *                         later call whose kind is a bit of it (1 << kind), with `error`
 *   shim_count(kind)      calls so far; 0: of any kind
 *   shim_trace(path)      append a line of text a call, failed ones included, to a file
 *   shim_record(path)     append a binary record a call that succeeded, with its data
 *   shim_mark(text)       write a text into the trace and the record
 *
 * Which file a descriptor is comes from /proc/self/fd at each call: there is no table to go out
 * of step with dup(), fork() or descriptors opened before. Calls are serialised by a mutex, so
 * that the order of the records is that of the calls. A child process (even one of vfork, which
 * shares this memory) passes through: only the process that called shim_watch() is watched.
 *
 * Not seen: writes through a mapping (only the mapping is), stdio's own writes, io_uring.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kinds of calls; up to MMAP also the operations of a record. CREATE is an OPEN that makes a file. */
enum {
  OPEN = 1, WRITE, TRUNCATE, ALLOCATE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, CLOSE,
  MARK, MMAP, LOCK, CREATE, KINDS
};
static const char *const NAMES[] = {
  "any", "open", "write", "truncate", "allocate", "fsync", "rename", "unlink", "mkdir", "rmdir",
  "link", "close", "mark", "mmap", "lock", "create"
};

/* What happens to the call that is to go wrong. */
enum { NONE, FAIL, HALF, NOTHING };

struct record { /* little endian; path, path2 and data follow */
  uint32_t magic, op;
  int64_t result;
  uint64_t file, a, b;
  uint32_t path_len, path2_len;
  uint64_t data_len;
};

static struct {
  char folder[PATH_MAX];
  size_t length; /* of the folder's path; 0: nothing is watched */
  pid_t pid;
  long counts[KINDS]; /* [0]: of any kind */
  long fail_at;
  int mode, error;
  unsigned then;
  int trace, record; /* descriptors; -1: none */
} shim = {.trace = -1, .record = -1};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int64_t really_close(int fd) { REAL(close); return real(fd); }
static ssize_t really_write(int fd, const void *data, size_t n) { REAL(write); return real(fd, data, n); }

/* ---- which file ---------------------------------------------------------------------------- */

static int watching(void) { return shim.length && getpid() == shim.pid; }

static int below(const char *path) {
  return !strncmp(path, shim.folder, shim.length)
      && (path[shim.length] == '/' || path[shim.length] == 0);
}

static int fd_path(int fd, char *out) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(name, out, PATH_MAX - 1);
  if (n < 0) return 0;
  out[n] = 0;
  return 1;
}

static int fd_watched(int fd, char *out) {
  int saved = errno, yes = watching() && fd_path(fd, out) && below(out);
  errno = saved;
  return yes;
}

/* The absolute path, links resolved; `follow`: one at its end as well. */
static int resolve(int dirfd, const char *path, int follow, char *out) {
  char whole[2 * PATH_MAX], *slash;
  int fd, end = 0;
  if ((sscanf(path, "/proc/self/fd/%d%n", &fd, &end) == 1
       || sscanf(path, "/dev/fd/%d%n", &fd, &end) == 1) && !path[end])
    return fd_path(fd, out); /* a deleted file's, too */
  if (path[0] == '/' || dirfd == AT_FDCWD) {
    snprintf(whole, sizeof whole, "%.*s", PATH_MAX - 1, path);
  } else {
    if (!fd_path(dirfd, out)) return 0;
    snprintf(whole, sizeof whole, "%s/%.*s", out, PATH_MAX - 1, path);
  }
  if (follow && realpath(whole, out)) return 1;
  while ((slash = strrchr(whole, '/')) && slash != whole && !slash[1]) *slash = 0;
  char name[NAME_MAX + 2];
  snprintf(name, sizeof name, "%.*s", NAME_MAX, slash ? slash + 1 : whole);
  if (slash) slash[slash == whole] = 0; else strcpy(whole, ".");
  if (!realpath(whole, out) || strlen(out) + strlen(name) + 2 > PATH_MAX) return 0;
  if (strcmp(out, "/")) strcat(out, "/");
  strcat(out, name);
  return 1;
}

static int path_watched(int dirfd, const char *path, int follow, char *out) {
  int saved = errno, yes = watching() && path && resolve(dirfd, path, follow, out) && below(out);
  errno = saved;
  return yes;
}

static uint64_t inode(const char *path) {
  struct stat found;
  return lstat(path, &found) ? 0 : found.st_ino;
}

static uint64_t inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) ? 0 : found.st_ino;
}

/* ---- what is written down ------------------------------------------------------------------ */

static void put(int fd, const void *data, size_t length) {
  const char *at = data;
  while (length) {
    ssize_t n = really_write(fd, at, length);
    if (n <= 0 && errno != EINTR) abort();
    if (n > 0) at += n, length -= n;
  }
}

static void trace(int kind, const char *path, const char *path2, int64_t result, int injected) {
  char line[2 * PATH_MAX + 128];
  if (shim.trace < 0) return;
  int n = snprintf(line, sizeof line, "%ld\t%s\t%lld\t%d\t%d\t%s%s%s\n", shim.counts[0],
                   NAMES[kind], (long long)result, result < 0 ? errno : 0, injected, path,
                   path2 ? "\t" : "", path2 ? path2 : "");
  put(shim.trace, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void record(int op, int64_t result, uint64_t file, uint64_t a, uint64_t b, const char *path,
                   const char *path2, const void *data, size_t length) {
  if (shim.record < 0) return;
  struct record head = {0x47524f4b, op, result, file, a, b, path ? strlen(path) : 0,
                        path2 ? strlen(path2) : 0, length};
  put(shim.record, &head, sizeof head);
  if (path) put(shim.record, path, head.path_len);
  if (path2) put(shim.record, path2, head.path2_len);
  if (data) put(shim.record, data, length);
}

/* ---- one call ------------------------------------------------------------------------------ */

/* Number the call; how it is to go wrong. The mutex is held from here to leave(). */
static int enter(int kind) {
  pthread_mutex_lock(&mutex);
  shim.counts[kind]++;
  long n = ++shim.counts[0];
  if (!shim.fail_at || n < shim.fail_at) return NONE;
  if (n == shim.fail_at) return shim.mode;
  return shim.then >> kind & 1 ? FAIL : NONE;
}

static int64_t leave(int kind, int wrong, int64_t result, const char *path, const char *path2) {
  int saved = errno;
  trace(kind, path, path2, result, wrong != NONE);
  pthread_mutex_unlock(&mutex);
  errno = saved;
  return result;
}

/* `what` is done unless the call is to fail; then `note` records it if it went well. */
#define CALL(kind, what, note, path, path2) \
  do { \
    int wrong_ = enter(kind); \
    int64_t result_ = -1; \
    if (wrong_ == NONE) result_ = (what); else errno = shim.error; \
    if (result_ != -1) { int saved_ = errno; note; errno = saved_; } \
    return leave(kind, wrong_, result_, path, path2); \
  } while (0)

/* ---- open ---------------------------------------------------------------------------------- */

static int64_t opened(int dirfd, const char *given, int flags, mode_t mode, int new, char *path) {
  REAL(openat);
  int64_t fd = real(dirfd, given, flags, mode);
  if (fd < 0) return fd;
  uint64_t file = inode_of(fd);
  fd_path(fd, path);
  record(OPEN, fd, file, flags, new, path, 0, 0, 0);
  if (flags & O_TRUNC) record(TRUNCATE, 0, file, 0, 0, path, 0, 0, 0);
  return fd;
}

static int shim_open(int dirfd, const char *given, int flags, mode_t mode) {
  REAL(openat);
  char path[PATH_MAX];
  int follow = !(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
  if (!path_watched(dirfd, given, follow, path)) return real(dirfd, given, flags, mode);
  int new = (flags & O_TMPFILE) == O_TMPFILE || ((flags & O_CREAT) && !inode(path));
  CALL(new ? CREATE : OPEN, opened(dirfd, given, flags, mode, new, path), , path, 0);
}

static mode_t mode_of(int flags, va_list more) {
  return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPEN_LIKE(name) \
  int name(const char *path, int flags, ...) { \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = mode_of(flags, more); \
    va_end(more); \
    return shim_open(AT_FDCWD, path, flags, mode); \
  }
#define OPENAT_LIKE(name) \
  int name(int dirfd, const char *path, int flags, ...) { \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = mode_of(flags, more); \
    va_end(more); \
    return shim_open(dirfd, path, flags, mode); \
  }
OPEN_LIKE(open)
OPEN_LIKE(open64)
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)
/* What a program compiled with _FORTIFY_SOURCE calls where it gives no mode. */
int __open_2(const char *path, int flags) { return shim_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return shim_open(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) {
  return shim_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* C++ streams open with fopen() and then write() themselves. */
static FILE *stream(const char *given, const char *how) {
  int plus = strchr(how, '+') != 0, saved;
  int flags = plus ? O_RDWR : how[0] == 'r' ? O_RDONLY : O_WRONLY;
  flags |= how[0] == 'w' ? O_CREAT | O_TRUNC : how[0] == 'a' ? O_CREAT | O_APPEND : 0;
  if (strchr(how, 'e')) flags |= O_CLOEXEC;
  int fd = shim_open(AT_FDCWD, given, flags, 0666);
  FILE *file = fd < 0 ? 0 : fdopen(fd, how);
  if (fd >= 0 && !file) saved = errno, really_close(fd), errno = saved;
  return file;
}
FILE *fopen(const char *path, const char *how) {
  REAL(fopen);
  char found[PATH_MAX];
  return path_watched(AT_FDCWD, path, 1, found) ? stream(path, how) : real(path, how);
}
FILE *fopen64(const char *path, const char *how) {
  REAL(fopen64);
  char found[PATH_MAX];
  return path_watched(AT_FDCWD, path, 1, found) ? stream(path, how) : real(path, how);
}

/* ---- write --------------------------------------------------------------------------------- */

/* Write `data` at `offset`, or at the descriptor's own place if that is -1, and record it. */
static int64_t written(int fd, const void *data, size_t length, off64_t offset, const char *path) {
  REAL(pwrite64);
  struct stat found;
  if (fstat(fd, &found)) return -1;
  off64_t at = offset;
  if (fcntl(fd, F_GETFL) & O_APPEND) at = found.st_size;
  else if (offset < 0) at = lseek64(fd, 0, SEEK_CUR);
  int64_t n = offset < 0 ? really_write(fd, data, length) : real(fd, data, length, offset);
  int saved = errno;
  if (n > 0) record(WRITE, n, found.st_ino, at, 0, path, 0, data, n);
  errno = saved;
  return n;
}

static ssize_t shim_write(int fd, const void *data, size_t length, off64_t offset, char *path) {
  int wrong = enter(WRITE);
  int64_t result = -1;
  if (wrong == NONE) result = written(fd, data, length, offset, path);
  else if (wrong == HALF) result = length / 2 ? written(fd, data, length / 2, offset, path) : 0;
  else if (wrong == NOTHING) result = 0;
  else errno = shim.error;
  return leave(WRITE, wrong, result, path, 0);
}

ssize_t write(int fd, const void *data, size_t length) {
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return really_write(fd, data, length);
  return shim_write(fd, data, length, -1, path);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  REAL(pwrite64);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, data, length, offset);
  return shim_write(fd, data, length, offset, path);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return pwrite64(fd, data, length, offset);
}

/* Several pieces become one write, so that a short count may end anywhere. */
static ssize_t gathered(int fd, const struct iovec *parts, int count, off64_t offset, char *path) {
  size_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  char *data = malloc(length + 1), *at = data;
  if (!data) { errno = ENOMEM; return -1; }
  for (int i = 0; i < count; at += parts[i++].iov_len)
    memcpy(at, parts[i].iov_base, parts[i].iov_len);
  ssize_t result = shim_write(fd, data, length, offset, path);
  int saved = errno;
  free(data);
  errno = saved;
  return result;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  char path[PATH_MAX];
  return fd_watched(fd, path) ? gathered(fd, parts, count, -1, path) : real(fd, parts, count);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
  REAL(pwritev64);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, parts, count, offset);
  return gathered(fd, parts, count, offset, path);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return pwritev64(fd, parts, count, offset);
}

/* Copies within the kernel are refused, as some file systems do: the caller writes instead. */
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
  REAL(sendfile64);
  char path[PATH_MAX];
  if (!fd_watched(to, path)) return real(to, from, offset, count);
  errno = EINVAL;
  return -1;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
  return sendfile64(to, from, offset, count);
}
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *put_at, size_t n, unsigned flags) {
  REAL(copy_file_range);
  char path[PATH_MAX];
  if (!fd_watched(to, path)) return real(from, at, to, put_at, n, flags);
  errno = EOPNOTSUPP;
  return -1;
}

/* ---- size, place on the disk, closing ------------------------------------------------------ */

int ftruncate64(int fd, off64_t length) {
  REAL(ftruncate64);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, length);
  CALL(TRUNCATE, real(fd, length), record(TRUNCATE, 0, inode_of(fd), length, 0, path, 0, 0, 0),
       path, 0);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int truncate64(const char *given, off64_t length) {
  REAL(truncate64);
  char path[PATH_MAX];
  if (!path_watched(AT_FDCWD, given, 1, path)) return real(given, length);
  CALL(TRUNCATE, real(given, length), record(TRUNCATE, 0, inode(path), length, 0, path, 0, 0, 0),
       path, 0);
}
int truncate(const char *path, off_t length) { return truncate64(path, length); }

int fallocate64(int fd, int how, off64_t offset, off64_t length) {
  REAL(fallocate64);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, how, offset, length);
  CALL(ALLOCATE, real(fd, how, offset, length),
       record(ALLOCATE, how, inode_of(fd), offset, length, path, 0, 0, 0), path, 0);
}
int fallocate(int fd, int how, off_t offset, off_t length) {
  return fallocate64(fd, how, offset, length);
}

/* This one returns its error and leaves errno alone. */
static int64_t allocated(int fd, off64_t offset, off64_t length) {
  REAL(posix_fallocate64);
  int error = real(fd, offset, length);
  if (error) errno = error;
  return error ? -1 : 0;
}
static int64_t shim_allocate(int fd, off64_t offset, off64_t length, char *path) {
  CALL(ALLOCATE, allocated(fd, offset, length),
       record(ALLOCATE, 0, inode_of(fd), offset, length, path, 0, 0, 0), path, 0);
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  REAL(posix_fallocate64);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, offset, length);
  int saved = errno, error = shim_allocate(fd, offset, length, path) ? errno : 0;
  errno = saved;
  return error;
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  return posix_fallocate64(fd, offset, length);
}

#define SYNC(name, data_only) \
  int name(int fd) { \
    REAL(name); \
    char path[PATH_MAX]; \
    if (!fd_watched(fd, path)) return real(fd); \
    CALL(FSYNC, real(fd), record(FSYNC, 0, inode_of(fd), data_only, 0, path, 0, 0, 0), path, 0); \
  }
SYNC(fsync, 0)
SYNC(fdatasync, 1)

/* Closing what was only read cannot fail. */
static int was_read(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY; }

/* A close that fails has closed: Linux gives the descriptor back before it writes. */
static int64_t closed(int fd, uint64_t file, const char *path) {
  int64_t result = really_close(fd);
  if (!result) record(CLOSE, 0, file, 0, 0, path, 0, 0, 0);
  return result;
}
int close(int fd) {
  char path[PATH_MAX];
  if (!fd_watched(fd, path) || was_read(fd)) return really_close(fd);
  int wrong = enter(CLOSE);
  int64_t result = closed(fd, inode_of(fd), path);
  if (wrong != NONE) errno = shim.error, result = -1;
  return leave(CLOSE, wrong, result, path, 0);
}
int fclose(FILE *file) {
  REAL(fclose);
  char path[PATH_MAX];
  int fd = fileno(file);
  if (fd < 0 || !fd_watched(fd, path) || was_read(fd)) return real(file);
  int wrong = enter(CLOSE);
  uint64_t number = inode_of(fd);
  int64_t result = real(file);
  if (!result) record(CLOSE, 0, number, 0, 0, path, 0, 0, 0);
  if (wrong != NONE) errno = shim.error, result = EOF;
  return leave(CLOSE, wrong, result, path, 0);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
  REAL(mmap64);
  char path[PATH_MAX];
  int shared = (flags & MAP_SHARED) && (protection & PROT_WRITE);
  if (fd < 0 || !fd_watched(fd, path)) return real(at, length, protection, flags, fd, offset);
  int wrong = enter(MMAP);
  void *found = MAP_FAILED;
  if (wrong == NONE) found = real(at, length, protection, flags, fd, offset);
  else errno = shim.error;
  if (shared && found != MAP_FAILED)
    record(MMAP, 0, inode_of(fd), offset, length, path, 0, 0, 0);
  leave(MMAP, wrong, found == MAP_FAILED ? -1 : 0, path, 0);
  return found;
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap64(at, length, protection, flags, fd, offset);
}

/* ---- names --------------------------------------------------------------------------------- */

static int shim_rename(int from, const char *old, int to, const char *new, unsigned flags) {
  REAL(renameat2);
  char path[PATH_MAX], path2[PATH_MAX];
  int ours = path_watched(from, old, 0, path) | path_watched(to, new, 0, path2);
  if (!ours || !resolve(from, old, 0, path) || !resolve(to, new, 0, path2))
    return real(from, old, to, new, flags);
  uint64_t file = inode(path);
  CALL(RENAME, real(from, old, to, new, flags), record(RENAME, 0, file, flags, 0, path, path2, 0, 0),
       path, path2);
}
int rename(const char *old, const char *new) { return shim_rename(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) {
  return shim_rename(from, old, to, new, 0);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
  return shim_rename(from, old, to, new, flags);
}

static int shim_link(int from, const char *old, int to, const char *new, int flags) {
  REAL(linkat);
  char path[PATH_MAX], path2[PATH_MAX];
  if (!path_watched(to, new, 0, path2) || !resolve(from, old, flags & AT_SYMLINK_FOLLOW, path))
    return real(from, old, to, new, flags);
  CALL(LINK, real(from, old, to, new, flags), record(LINK, 0, inode(path2), 0, 0, path, path2, 0, 0),
       path, path2);
}
int link(const char *old, const char *new) { return shim_link(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
  return shim_link(from, old, to, new, flags);
}

static int shim_unlink(int dirfd, const char *given, int flags) {
  REAL(unlinkat);
  char path[PATH_MAX];
  int kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
  if (!path_watched(dirfd, given, 0, path)) return real(dirfd, given, flags);
  uint64_t file = inode(path);
  CALL(kind, real(dirfd, given, flags), record(kind, 0, file, 0, 0, path, 0, 0, 0), path, 0);
}
int unlink(const char *path) { return shim_unlink(AT_FDCWD, path, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return shim_unlink(dirfd, path, flags); }
int rmdir(const char *path) { return shim_unlink(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  struct stat found;
  int folder = !lstat(path, &found) && S_ISDIR(found.st_mode);
  return shim_unlink(AT_FDCWD, path, folder ? AT_REMOVEDIR : 0);
}

static int shim_mkdir(int dirfd, const char *given, mode_t mode) {
  REAL(mkdirat);
  char path[PATH_MAX];
  if (!path_watched(dirfd, given, 0, path)) return real(dirfd, given, mode);
  CALL(MKDIR, real(dirfd, given, mode), record(MKDIR, 0, inode(path), 0, 0, path, 0, 0, 0), path, 0);
}
int mkdir(const char *path, mode_t mode) { return shim_mkdir(AT_FDCWD, path, mode); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return shim_mkdir(dirfd, path, mode); }

int flock(int fd, int how) {
  REAL(flock);
  char path[PATH_MAX];
  if (!fd_watched(fd, path)) return real(fd, how);
  CALL(LOCK, real(fd, how), , path, 0);
}

/* ---- what the process calls by ctypes ------------------------------------------------------ */

/* A descriptor out of the way of the process's own, -1 for none. */
static void into(int *place, const char *path) {
  REAL(open);
  if (*place >= 0) really_close(*place);
  *place = -1;
  if (!path) return;
  int fd = real(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) { perror(path); abort(); }
  *place = fcntl(fd, F_DUPFD_CLOEXEC, 700);
  really_close(fd);
}

void shim_watch(const char *folder) {
  pthread_mutex_lock(&mutex);
  shim.length = 0;
  memset(shim.counts, 0, sizeof shim.counts);
  shim.fail_at = 0;
  shim.pid = getpid();
  if (folder && realpath(folder, shim.folder)) shim.length = strlen(shim.folder);
  pthread_mutex_unlock(&mutex);
}

void shim_fail(long n, int mode, int error, unsigned then) {
  pthread_mutex_lock(&mutex);
  shim.fail_at = n, shim.mode = mode, shim.error = error, shim.then = then;
  pthread_mutex_unlock(&mutex);
}

long shim_count(int kind) { return kind >= 0 && kind < KINDS ? shim.counts[kind] : -1; }

void shim_trace(const char *path) { into(&shim.trace, path); }
void shim_record(const char *path) { into(&shim.record, path); }

void shim_mark(const char *text) {
  pthread_mutex_lock(&mutex);
  trace(MARK, text, 0, 0, 0);
  record(MARK, 0, 0, 0, 0, 0, 0, text, strlen(text));
  pthread_mutex_unlock(&mutex);
}
