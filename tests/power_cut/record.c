/* Writes down every change of the files below one folder, in the order in which they happened,
 * across threads and processes. Preloaded; scripts/power-cut compiles it and says where:
 *
 *   POWER_CUT_FOLDER   what is recorded (an absolute path without links)
 *   POWER_CUT_LOG      the log, outside of that folder
 *   POWER_CUT_STATE    a page that all processes share: the log's length, a lock
 *
 * A change and its record are one step under the lock, so the log's order is a real order. An fsync
 * is not: it has a record before it began (S) and one after it returned (F), which names the first.
 * Only what stands before S is then on the disk: a write that comes during an fsync need not be.
 *
 * Answers over HTTP stand in the log, too (A), before they are handed to the kernel: whoever reads
 * one was promised something at that point at the latest, and everything that was done for it
 * stands before it.
 *
 * What is not understood (mapped files, copy_file_range, O_SYNC ...) becomes a record (!), and the
 * reader refuses the log. What would slip past us altogether shows in the end: the log, played back,
 * must give the folder byte by byte.
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
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct state { volatile uint64_t length; uint64_t ready; pthread_mutex_t lock; };
struct record { uint8_t op, pad; uint16_t name, other, pad2; uint32_t data, pid; uint64_t inode, a, b; };

enum { FILES = 65536, ANSWER = 2048 };
static struct { char ours; uint64_t inode; } files[FILES];
static struct state *state;
static int log_fd = -1;
static const char *folder;
static size_t folder_length;

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("POWER_CUT_LOG"), *shared = getenv("POWER_CUT_STATE");
    folder = getenv("POWER_CUT_FOLDER");
    if (!folder || !log || !shared) return;
    folder_length = strlen(folder);
    int fd = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_RDWR | O_CLOEXEC);
    if (fd < 0 || log_fd < 0) abort();
    flock(fd, LOCK_EX);
    struct state *page = (void *)syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!page->ready) {
        pthread_mutexattr_t kind;
        pthread_mutexattr_init(&kind);
        pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&page->lock, &kind);
        page->ready = 1;
    }
    /* In so many words: the mapping keeps the file open, and a lock lasts as long as that. */
    flock(fd, LOCK_UN);
    syscall(SYS_close, fd);
    state = page;
}

static void lock(void) {
    if (pthread_mutex_lock(&state->lock) == EOWNERDEAD) pthread_mutex_consistent(&state->lock);
}

/* Keeps errno, which is the caller's. */
static void unlock(void) { int e = errno; pthread_mutex_unlock(&state->lock); errno = e; }

/* Under the lock. Answers where the record begins. */
static uint64_t note(char op, uint64_t inode, uint64_t a, uint64_t b, const char *name, const char *other,
                     const struct iovec *data, int pieces, size_t bytes) {
    int e = errno, used = 3;
    struct record record = { .op = op, .name = strlen(name), .other = strlen(other), .data = bytes,
                             .pid = getpid(), .inode = inode, .a = a, .b = b };
    struct iovec all[IOV_MAX] = { { &record, sizeof record }, { (void *)name, record.name },
                                  { (void *)other, record.other } };
    size_t length = sizeof record + record.name + record.other + bytes, left = bytes;
    for (int i = 0; i < pieces && left && used < IOV_MAX; i++, used++) {
        all[used] = data[i];
        if (all[used].iov_len > left) all[used].iov_len = left;
        left -= all[used].iov_len;
    }
    uint64_t at = state->length;
    if (left || syscall(SYS_pwritev, log_fd, all, used, at, 0) != (ssize_t)length) {
        static const char full[] = "power-cut: the log cannot be written\n";
        syscall(SYS_write, 2, full, sizeof full - 1);
        abort();
    }
    __sync_synchronize();
    state->length = at + length;
    errno = e;
    return at;
}

static void unknown(const char *what) {
    lock();
    note('!', 0, 0, 0, what, "", NULL, 0, 0);
    unlock();
}

/* Whether a path is of the folder; as a whole, then. The index in shared memory is no part of what
 * lasts: SQLite makes it anew. */
static int inside(int dir, const char *path, char *full) {
    if (!state || !path) return 0;
    if (path[0] == '/') {
        if (snprintf(full, PATH_MAX, "%s", path) >= PATH_MAX) return 0;
    } else {
        char link[64], base[PATH_MAX] = "";
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        if (syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1) < 0) return 0;
        if (snprintf(full, PATH_MAX, "%.2000s/%.2000s", base, path) >= PATH_MAX) return 0;
    }
    size_t length = strlen(full);
    while (length > 1 && full[length - 1] == '/') full[--length] = 0;
    if (strncmp(full, folder, folder_length) || (full[folder_length] && full[folder_length] != '/')) return 0;
    return length < 4 || strcmp(full + length - 4, "-shm");
}

static uint64_t inode(const char *path) {
    struct stat st;
    int e = errno;
    uint64_t found = syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : st.st_ino;
    errno = e;
    return found;
}

static uint64_t parent(const char *full, const char **name) {
    char above[PATH_MAX];
    const char *slash = strrchr(full, '/');
    *name = slash + 1;
    snprintf(above, sizeof above, "%.*s", (int)(slash - full), full);
    return inode(above);
}

static int ours(int fd) { return state && fd >= 0 && fd < FILES && files[fd].ours; }

static int open_in(int dir, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int is_ours = inside(dir, path, full), changes = is_ours && flags & (O_CREAT | O_TRUNC);
    if (is_ours && (flags & O_SYNC || flags & O_DSYNC || (flags & O_TMPFILE) == O_TMPFILE)) unknown("open");
    if (changes) lock();
    uint64_t before = changes ? inode(full) : 0;
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fd < FILES) {
        struct stat st;
        files[fd].ours = is_ours && !fstat(fd, &st);
        if (files[fd].ours) files[fd].inode = st.st_ino;
        if (changes && files[fd].ours) {
            const char *name;
            uint64_t above = parent(full, &name);
            if (!before) note('C', st.st_ino, above, 0, name, "", NULL, 0, 0);
            else if (flags & O_TRUNC) note('T', st.st_ino, 0, 0, "", "", NULL, 0, 0);
        }
    } else if (fd >= FILES && is_ours) unknown("open: too many files");
    if (changes) unlock();
    return fd;
}

#define OPEN(name, dir, ...) \
    int name(__VA_ARGS__ const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return open_in(dir, path, flags, mode); \
    }
#define COMMA ,
OPEN(open, AT_FDCWD,)
OPEN(open64, AT_FDCWD,)
OPEN(openat, dir, int dir COMMA)
OPEN(openat64, dir, int dir COMMA)

int close(int fd) {
    if (fd >= 0 && fd < FILES) files[fd].ours = 0;
    return syscall(SYS_close, fd);
}
static int copied(int from, int to) {
    if (to >= 0 && to < FILES) { files[to] = files[from < 0 || from >= FILES ? to : from]; }
    return to;
}
int dup(int fd) { return copied(fd, syscall(SYS_dup, fd)); }
int dup2(int fd, int to) { return copied(fd, fd == to ? to : syscall(SYS_dup3, fd, to, 0)); }
#define FCNTL(name) \
    int name(int fd, int command, ...) { \
        va_list rest; va_start(rest, command); void *value = va_arg(rest, void *); va_end(rest); \
        int result = syscall(SYS_fcntl, fd, command, value); \
        return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result; \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

/* at < 0: where the file stands. */
static ssize_t put(int fd, const struct iovec *data, int pieces, off_t at) {
    lock();
    ssize_t put = at < 0 ? syscall(SYS_writev, fd, data, pieces) : syscall(SYS_pwritev, fd, data, pieces, at, 0);
    if (put > 0) {
        int flags = syscall(SYS_fcntl, fd, F_GETFL);
        /* Whoever appends is then at the end, too. */
        if (at < 0) at = syscall(SYS_lseek, fd, 0, SEEK_CUR) - put;
        else if (flags & O_APPEND) note('!', 0, 0, 0, "pwrite of a file that is appended to", "", NULL, 0, 0);
        note('W', files[fd].inode, at, 0, "", "", data, pieces, put);
    }
    unlock();
    return put;
}

static void answer(const struct iovec *data, int pieces) {
    if (!state || pieces < 1 || data->iov_len < 12 || memcmp(data->iov_base, "HTTP/1.1 20", 11)) return;
    size_t bytes = 0;
    for (int i = 0; i < pieces; i++) bytes += data[i].iov_len;
    lock();
    note('A', 0, 0, 0, "", "", data, pieces, bytes < ANSWER ? bytes : ANSWER);
    unlock();
}

ssize_t write(int fd, const void *data, size_t bytes) {
    struct iovec one = { (void *)data, bytes };
    if (ours(fd)) return put(fd, &one, 1, -1);
    answer(&one, 1);
    return syscall(SYS_write, fd, data, bytes);
}
ssize_t writev(int fd, const struct iovec *data, int pieces) {
    if (ours(fd)) return put(fd, data, pieces, -1);
    answer(data, pieces);
    return syscall(SYS_writev, fd, data, pieces);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    struct iovec one = { (void *)data, bytes };
    return ours(fd) ? put(fd, &one, 1, at) : syscall(SYS_pwrite64, fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) { return pwrite(fd, data, bytes, at); }
ssize_t pwritev(int fd, const struct iovec *data, int pieces, off_t at) {
    return ours(fd) ? put(fd, data, pieces, at) : syscall(SYS_pwritev, fd, data, pieces, at, 0);
}
ssize_t send(int fd, const void *data, size_t bytes, int flags) {
    struct iovec one = { (void *)data, bytes };
    answer(&one, 1);
    return syscall(SYS_sendto, fd, data, bytes, flags, NULL, 0);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    answer(message->msg_iov, message->msg_iovlen);
    return syscall(SYS_sendmsg, fd, message, flags);
}

int ftruncate(int fd, off_t size) {
    if (!ours(fd)) return syscall(SYS_ftruncate, fd, size);
    lock();
    int result = syscall(SYS_ftruncate, fd, size);
    if (!result) note('T', files[fd].inode, size, 0, "", "", NULL, 0, 0);
    unlock();
    return result;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* Folders in which this process made a folder: the first time that it syncs one takes a third of a
 * second, so that others get ahead of it. What is made once, by whoever comes first, is made then. */
static struct { uint64_t inode; int synced; } slow[8];

static int sync_with(long call, int fd) {
    if (!ours(fd)) return syscall(call, fd);
    lock();
    uint64_t begun = note('S', files[fd].inode, 0, 0, "", "", NULL, 0, 0);
    unlock();
    for (int i = 0; i < 8; i++)
        if (slow[i].inode == files[fd].inode && !__sync_fetch_and_add(&slow[i].synced, 1)) usleep(300000);
    int result = syscall(call, fd);
    lock();
    if (!result) note('F', files[fd].inode, begun, 0, "", "", NULL, 0, 0);
    unlock();
    return result;
}
int fsync(int fd) { return sync_with(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

static int move(char op, int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char full[PATH_MAX], other[PATH_MAX];
    int is_ours = inside(from_dir, from, full), is_there = inside(to_dir, to, other);
    long call = op == 'R' ? SYS_renameat2 : SYS_linkat;
    if (!is_ours && !is_there) return syscall(call, from_dir, from, to_dir, to, flags);
    if (is_ours != is_there || flags) unknown(op == 'R' ? "rename" : "link");
    lock();
    uint64_t moved = inode(full);
    int result = syscall(call, from_dir, from, to_dir, to, flags);
    const char *name, *name_there;
    uint64_t above = parent(full, &name), above_there = parent(other, &name_there);
    if (!result && moved) note(op, moved, above, above_there, name, name_there, NULL, 0, 0);
    unlock();
    return result;
}
int rename(const char *from, const char *to) { return move('R', AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int d, const char *from, int e, const char *to) { return move('R', d, from, e, to, 0); }
int renameat2(int d, const char *from, int e, const char *to, unsigned flags) { return move('R', d, from, e, to, flags); }
int linkat(int d, const char *from, int e, const char *to, int flags) { return move('L', d, from, e, to, flags); }

static int remove_in(int dir, const char *path, int flags) {
    char full[PATH_MAX];
    if (!inside(dir, path, full)) return syscall(SYS_unlinkat, dir, path, flags);
    const char *name;
    lock();
    uint64_t above = parent(full, &name), gone = inode(full);
    int result = syscall(SYS_unlinkat, dir, path, flags);
    if (!result) note('U', gone, above, 0, name, "", NULL, 0, 0);
    unlock();
    return result;
}
int unlink(const char *path) { return remove_in(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return remove_in(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int dir, const char *path, int flags) { return remove_in(dir, path, flags); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!inside(dir, path, full)) return syscall(SYS_mkdirat, dir, path, mode);
    const char *name;
    lock();
    int result = syscall(SYS_mkdirat, dir, path, mode);
    uint64_t above = parent(full, &name);
    if (!result) note('D', inode(full), above, 0, name, "", NULL, 0, 0);
    for (int i = 0; !result && i < 8 && slow[i].inode != above; i++)
        if (!slow[i].inode) { slow[i].inode = above; break; }
    unlock();
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Not understood. */
void *mmap(void *at, size_t bytes, int may, int flags, int fd, off_t from) {
    if (!(flags & MAP_ANONYMOUS) && flags & MAP_SHARED && may & PROT_WRITE && ours(fd)) unknown("mmap");
    return (void *)syscall(SYS_mmap, at, bytes, may, flags, fd, from);
}
void *mmap64(void *at, size_t bytes, int may, int flags, int fd, off_t from) { return mmap(at, bytes, may, flags, fd, from); }
int fallocate(int fd, int mode, off_t from, off_t bytes) {
    if (ours(fd)) unknown("fallocate");
    return syscall(SYS_fallocate, fd, mode, from, bytes);
}
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t bytes, unsigned flags) {
    if (ours(out)) unknown("copy_file_range");
    return syscall(SYS_copy_file_range, in, from, out, to, bytes, flags);
}
ssize_t sendfile(int out, int in, off_t *from, size_t bytes) {
    if (ours(out)) unknown("sendfile");
    return syscall(SYS_sendfile, out, in, from, bytes);
}
