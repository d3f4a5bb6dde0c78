/* Preloaded into a process, this logs what the process does to the files under one directory, in order, with its data.
 *
 * Environment: DISK_LOG the log to append to, DISK_LOG_ROOT the directory (its real path), DISK_LOG_SYNC_US how long a
 * sync takes. Records are read by disk_log.py, which knows this layout.
 *
 * 1. An operation and its record are one step for all threads of the process.
 * 2. A sync is a record only: what it would have made durable is decided by whoever replays the log. It takes its time
 *    after the record, so that other threads go on meanwhile and what they write then does not count as synced.
 * 3. What this file does not know how to record is recorded as 'unseen', so that no test believes a log with a hole.
 *    Changes by system calls that it does not stand before are found by comparing the replayed log with the directory.
 */
#define _GNU_SOURCE
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
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum op {
    OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_ZERO, OP_SYNC, OP_SYNC_DIRECTORY, OP_RENAME, OP_UNLINK, OP_MKDIR, OP_RMDIR,
    OP_UNSEEN,
};

struct record {
    uint32_t magic;
    uint32_t op;
    uint64_t file;   /* inode number */
    uint64_t offset; /* or the new size */
    uint32_t path_bytes;
    uint32_t data_bytes;
};

#define MAGIC 0x4b534944u

static pthread_mutex_t one_step = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int log_fd = -1;
static useconds_t sync_us;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("DISK_LOG"), *directory = getenv("DISK_LOG_ROOT"), *us = getenv("DISK_LOG_SYNC_US");
    if (log == NULL || directory == NULL) return;
    root_bytes = strlen(strncpy(root, directory, sizeof root - 1));
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 200); /* out of the way of programs that count their descriptors */
    syscall(SYS_close, fd);
    sync_us = us == NULL ? 0 : (useconds_t)atoi(us);
    if (log_fd < 0) abort();
}

static void append(uint32_t op, uint64_t file, uint64_t offset, const char *path, const void *data, size_t bytes) {
    int before = errno;
    struct record record = {MAGIC, op, file, offset, (uint32_t)strlen(path), (uint32_t)bytes};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)path, record.path_bytes}, {(void *)data, bytes}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof record + record.path_bytes + bytes)) abort();
    errno = before;
}

static int watched(const char *path) {
    return log_fd >= 0 && strncmp(path, root, root_bytes) == 0 && (path[root_bytes] == '/' || path[root_bytes] == 0);
}

/* The path of what an open descriptor refers to, as the kernel sees it; 0 when it is not ours. */
static int watched_fd(int fd, char *path, struct stat *status) {
    if (log_fd < 0) return 0;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    if (bytes < 0) return 0;
    path[bytes] = 0;
    return watched(path) && fstat(fd, status) == 0 && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));
}

/* An absolute path for the arguments of an ...at call; the last part need not exist. */
static int watched_at(int directory, const char *name, char *path) {
    if (log_fd < 0 || name == NULL) return 0;
    if (name[0] == '/') {
        if (strlen(name) >= PATH_MAX) return 0;
        strcpy(path, name);
        return watched(path);
    }
    char link[32];
    if (directory == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t bytes = readlink(link, path, PATH_MAX - 1);
    if (bytes < 0 || bytes + 1 + strlen(name) >= PATH_MAX) return 0;
    path[bytes] = '/';
    strcpy(path + bytes + 1, name);
    return watched(path);
}

#define STEP(result_type, call)                 \
    pthread_mutex_lock(&one_step);              \
    result_type result = (call);                \
    int failed_with = errno;
#define DONE                                    \
    pthread_mutex_unlock(&one_step);            \
    errno = failed_with;                        \
    return result;

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !watched_at(directory, name, path))
        return (int)syscall(SYS_openat, directory, name, flags, mode);
    struct stat status;
    pthread_mutex_lock(&one_step);
    int was_there = fstatat(directory, name, &status, 0) == 0;
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    int failed_with = errno;
    if (fd >= 0 && watched_fd(fd, path, &status)) {
        if (!was_there) append(OP_CREATE, status.st_ino, 0, path, NULL, 0);
        else if (flags & O_TRUNC) append(OP_TRUNCATE, status.st_ino, 0, path, NULL, 0);
    }
    pthread_mutex_unlock(&one_step);
    errno = failed_with;
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPENS(name)                                                                     \
    int name(const char *path, int flags, ...) {                                        \
        va_list rest;                                                                   \
        va_start(rest, flags);                                                          \
        mode_t mode = mode_of(flags, rest);                                             \
        va_end(rest);                                                                   \
        return open_at(AT_FDCWD, path, flags, mode);                                    \
    }
#define OPENS_AT(name)                                                                  \
    int name(int directory, const char *path, int flags, ...) {                         \
        va_list rest;                                                                   \
        va_start(rest, flags);                                                          \
        mode_t mode = mode_of(flags, rest);                                             \
        va_end(rest);                                                                   \
        return open_at(directory, path, flags, mode);                                   \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int fd, const void *data, size_t bytes) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return syscall(SYS_write, fd, data, bytes);
    STEP(ssize_t, syscall(SYS_write, fd, data, bytes))
    if (result > 0) append(OP_WRITE, status.st_ino, (uint64_t)(lseek(fd, 0, SEEK_CUR) - result), path, data, (size_t)result);
    DONE
}

static ssize_t write_at(int fd, const void *data, size_t bytes, off_t offset) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return syscall(SYS_pwrite64, fd, data, bytes, offset);
    STEP(ssize_t, syscall(SYS_pwrite64, fd, data, bytes, offset))
    if (result > 0) append(OP_WRITE, status.st_ino, (uint64_t)offset, path, data, (size_t)result);
    DONE
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) { return write_at(fd, data, bytes, offset); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) { return write_at(fd, data, bytes, offset); }

/* Vectors go piece by piece: a caller has to cope with a short count anyway. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return syscall(SYS_writev, fd, parts, count);
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t written = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (written < 0) return total ? total : written;
        total += written;
        if ((size_t)written < parts[i].iov_len) break;
    }
    return total;
}

static ssize_t write_vector_at(int fd, const struct iovec *parts, int count, off_t offset) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t written = write_at(fd, parts[i].iov_base, parts[i].iov_len, offset + total);
        if (written < 0) return total ? total : written;
        total += written;
        if ((size_t)written < parts[i].iov_len) break;
    }
    return total;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return write_vector_at(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return write_vector_at(fd, parts, count, at); }

static int truncate_to(int fd, off_t size) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return (int)syscall(SYS_ftruncate, fd, size);
    STEP(int, (int)syscall(SYS_ftruncate, fd, size))
    if (result == 0) append(OP_TRUNCATE, status.st_ino, (uint64_t)size, path, NULL, 0);
    DONE
}
int ftruncate(int fd, off_t size) { return truncate_to(fd, size); }
int ftruncate64(int fd, off_t size) { return truncate_to(fd, size); }

static int allocate(int fd, int mode, off_t offset, off_t length) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    STEP(int, (int)syscall(SYS_fallocate, fd, mode, offset, length))
    if (result == 0) {
        struct stat after;
        fstat(fd, &after);
        uint64_t bytes = (uint64_t)length;
        if (mode & FALLOC_FL_PUNCH_HOLE) append(OP_ZERO, status.st_ino, (uint64_t)offset, path, &bytes, sizeof bytes);
        else if (mode & ~FALLOC_FL_KEEP_SIZE) append(OP_UNSEEN, status.st_ino, 0, "fallocate", NULL, 0);
        else if (after.st_size != status.st_size) append(OP_TRUNCATE, status.st_ino, (uint64_t)after.st_size, path, NULL, 0);
    }
    DONE
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return allocate(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off_t offset, off_t length) { return allocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return allocate(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate64(int fd, off_t offset, off_t length) { return allocate(fd, 0, offset, length) ? errno : 0; }

static int synced(int fd, long call) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return (int)syscall(call, fd);
    pthread_mutex_lock(&one_step);
    append(S_ISDIR(status.st_mode) ? OP_SYNC_DIRECTORY : OP_SYNC, status.st_ino, 0, path, NULL, 0);
    pthread_mutex_unlock(&one_step);
    if (sync_us) usleep(sync_us);
    return 0;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int rename_at(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    int ours = watched_at(from_directory, from, from_path) + watched_at(to_directory, to, to_path);
    if (!ours) return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    STEP(int, (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags))
    if (result == 0) {
        if (ours < 2 || flags & ~1u) append(OP_UNSEEN, 0, 0, "rename", NULL, 0); /* 1: RENAME_NOREPLACE */
        else append(OP_RENAME, 0, 0, from_path, to_path, strlen(to_path));
    }
    DONE
}
int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return rename_at(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return rename_at(a, from, b, to, flags); }

static int remove_at(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    if (!watched_at(directory, name, path)) return (int)syscall(SYS_unlinkat, directory, name, flags);
    STEP(int, (int)syscall(SYS_unlinkat, directory, name, flags))
    if (result == 0) append(flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK, 0, 0, path, NULL, 0);
    DONE
}
int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int directory, const char *path, int flags) { return remove_at(directory, path, flags); }
int rmdir(const char *path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }

static int make_directory_at(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!watched_at(directory, name, path)) return (int)syscall(SYS_mkdirat, directory, name, mode);
    struct stat status;
    STEP(int, (int)syscall(SYS_mkdirat, directory, name, mode))
    if (result == 0 && fstatat(directory, name, &status, 0) == 0) append(OP_MKDIR, status.st_ino, 0, path, NULL, 0);
    DONE
}
int mkdir(const char *path, mode_t mode) { return make_directory_at(AT_FDCWD, path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) { return make_directory_at(directory, path, mode); }

static void unseen(int fd, const char *what) {
    char path[PATH_MAX];
    struct stat status;
    if (!watched_fd(fd, path, &status)) return;
    size_t bytes = strlen(path);
    if (bytes > 4 && strcmp(path + bytes - 4, "-shm") == 0) return; /* SQLite rebuilds it: it need not be durable */
    pthread_mutex_lock(&one_step);
    append(OP_UNSEEN, status.st_ino, 0, what, NULL, 0);
    pthread_mutex_unlock(&one_step);
}
static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE) unseen(fd, "mmap");
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
void *mmap(void *a, size_t b, int c, int d, int fd, off_t e) { return map(a, b, c, d, fd, e); }
void *mmap64(void *a, size_t b, int c, int d, int fd, off_t e) { return map(a, b, c, d, fd, e); }
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    unseen(out, "sendfile");
    return syscall(SYS_sendfile, out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off_t *offset, size_t count) { return sendfile(out, in, offset, count); }
ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length, unsigned flags) {
    unseen(out, "copy_file_range");
    return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, length, flags);
}
int link(const char *from, const char *to) {
    char path[PATH_MAX];
    if (watched_at(AT_FDCWD, to, path)) append(OP_UNSEEN, 0, 0, "link", NULL, 0);
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
