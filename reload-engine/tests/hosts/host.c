/* A target: threads that sweep over the library's functions, threads that wait in many ways, and what they saw.
 *
 *   host LIBRARY BOARD KIND...    KIND: sweep, wait, spin, deaf, handler, fork, vfork, storm, signals,
 *   hammer
 *
 * The board is a file of 64-bit counters, mapped shared. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { READY, SWEEPS, BACKWARDS, VERSION, WAITS, FAILED, EARLY, LOWEST_FD, FAULTS, CHILD, SENT, HANDLED, KINDS = 16 };
enum { WAIT_MS = 50, COUNT = 400, STRIDE = 64 };
static _Atomic uint64_t *board;
static char *functions;
static void (*spin)(void);
static uint64_t (*several)(uint64_t);

static void *sweep(void *unused) {
    unsigned last = 1;
    for (;;) {
        for (int i = 0; i < COUNT; i++) {
            unsigned version = ((unsigned (*)(void))(functions + i * STRIDE))();
            /* Whoever has seen the new version anywhere must never see the old one again. */
            if (version < last) board[BACKWARDS]++;
            last = version;
        }
        board[VERSION] = last;
        board[SWEEPS]++;
    }
    return unused;
}

static void *hammer(void *unused) {
    for (uint64_t last = 0;;) {
        for (uint64_t x = 0; x < 100000; x++) {
            uint64_t more = several(x) - x;
            if (more > 1) board[BACKWARDS]++;
            if (more == 1 && !last) board[SWEEPS]++;
            last = more;
        }
    }
    return unused;
}

static struct timespec relative = {0, WAIT_MS * 1000000L};
static struct timespec after(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += WAIT_MS * 1000000L;
    time.tv_sec += time.tv_nsec / 1000000000L;
    time.tv_nsec %= 1000000000L;
    return time;
}
static int error(int code) { errno = code; return code ? -1 : 0; }
static int w_poll(void) { return poll(NULL, 0, WAIT_MS); }
static int w_nanosleep(void) { return nanosleep(&relative, NULL); }
static int w_select(void) { struct timeval t = {0, WAIT_MS * 1000}; return select(0, NULL, NULL, NULL, &t); }
static int w_epoll(void) {
    static int epoll = -1;
    if (epoll < 0) epoll = epoll_create1(0);
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, WAIT_MS);
}
static int w_read(void) { /* a socket with a timeout, by read */
    static int pair[2] = {-1, -1};
    struct timeval t = {0, WAIT_MS * 1000};
    if (pair[0] < 0) { socketpair(AF_UNIX, SOCK_STREAM, 0, pair); setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t); }
    char byte;
    return read(pair[0], &byte, 1) < 0 && errno == EAGAIN ? 0 : -1;
}
static int w_recv(void) {
    static int pair[2] = {-1, -1};
    struct timeval t = {0, WAIT_MS * 1000};
    if (pair[0] < 0) { socketpair(AF_UNIX, SOCK_STREAM, 0, pair); setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t); }
    char byte;
    return recv(pair[0], &byte, 1, 0) < 0 && errno == EAGAIN ? 0 : -1;
}
static int w_pipe(void) { /* read of a pipe that another thread feeds */
    static int pipe_[2] = {-1, -1};
    if (pipe_[0] < 0) { if (pipe(pipe_)) return -1; }
    if (!fork()) { nanosleep(&relative, NULL); (void)!write(pipe_[1], "x", 1); _exit(0); }
    char byte;
    return read(pipe_[0], &byte, 1) == 1 ? 0 : -1;
}
static int w_sem(void) {
    static sem_t never;
    struct timespec t = after(CLOCK_REALTIME);
    return sem_timedwait(&never, &t) && errno == ETIMEDOUT ? 0 : -1;
}
static int w_futex(void) {
    static int word;
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &relative, NULL, 0) && errno == ETIMEDOUT ? 0 : -1;
}
static int w_cond(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    struct timespec t = after(CLOCK_REALTIME);
    pthread_mutex_lock(&lock);
    int code = pthread_cond_timedwait(&never, &lock, &t);
    pthread_mutex_unlock(&lock);
    return code == ETIMEDOUT ? 0 : error(code);
}
static int w_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &relative) < 0 && errno == EAGAIN ? 0 : -1;
}
static int (*const waits[])(void) = {w_poll, w_nanosleep, w_select, w_epoll, w_read, w_recv, w_pipe, w_sem, w_futex, w_cond, w_sigtimedwait};
enum { WAIT_KINDS = sizeof waits / sizeof *waits };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}
static void *wait_again(void *argument) {
    long kind = (long)argument;
    for (;;) {
        double start = now();
        errno = 0;
        if (waits[kind]() != 0) { board[FAILED]++; board[KINDS + kind] = 1000 + errno; }
        /* The kernel counts socket timeouts in ticks of up to 10 ms and may begin within one. */
        if (now() - start < WAIT_MS - 10) { board[EARLY]++; board[KINDS + kind] = 2000; }
        board[WAITS]++;
    }
    return NULL;
}

static void *spin_forever(void *unused) { spin(); return unused; }
static void *deaf(void *unused) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    return sweep(unused);
}
/* Its parent sleeps uninterruptibly while the child, in the same memory, takes its time. */
static void *vfork_again(void *unused) {
    static struct timespec time = {0, 300000000L};
    for (;;) {
        pid_t child = vfork();
        if (!child) { syscall(SYS_nanosleep, &time, NULL); _exit(0); }
        board[SWEEPS]++;
    }
    return unused;
}
static void *ends_at_once(void *unused) { board[SWEEPS]++; return unused; }
static void *storm(void *unused) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 32768);
    for (pthread_t thread;;) if (pthread_create(&thread, &attributes, ends_at_once, NULL)) usleep(10);
    return unused;
}
/* Real-time signals are counted by the kernel: none may be lost or doubled. The sender stops when told to. */
static void on_signal(int signal) { board[HANDLED]++; (void)signal; }
static void *send_signals(void *unused) {
    while (board[SENT] < 20000) {
        if (!sigqueue(getpid(), SIGRTMIN + 3, (union sigval){0})) board[SENT]++;
        usleep(50);
    }
    return unused;
}
static void on_fault(int signal) { board[FAULTS]++; (void)signal; }

static void start(void *(*run)(void *), void *argument) {
    pthread_t thread;
    pthread_create(&thread, NULL, run, argument);
}

int main(int count, char **arguments) {
    int file = open(arguments[2], O_RDWR | O_CREAT, 0600);
    if (ftruncate(file, 4096)) return 1;
    board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    board[LOWEST_FD] = file;
    void *library = dlopen(arguments[1], RTLD_NOW);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    functions = dlsym(library, "functions");
    *(void **)&spin = dlsym(library, "spin");
    *(void **)&several = dlsym(library, "several");
    for (int i = 3; i < count; i++) {
        if (!strcmp(arguments[i], "sweep")) start(sweep, NULL);
        if (!strcmp(arguments[i], "deaf")) start(deaf, NULL);
        if (!strcmp(arguments[i], "hammer")) start(hammer, NULL);
        if (!strcmp(arguments[i], "spin")) start(spin_forever, NULL);
        if (!strcmp(arguments[i], "vfork")) { signal(SIGCHLD, SIG_IGN); start(vfork_again, NULL); }
        if (!strcmp(arguments[i], "signals")) { signal(SIGRTMIN + 3, on_signal); start(send_signals, NULL); }
        if (!strcmp(arguments[i], "storm")) start(storm, NULL);
        if (!strcmp(arguments[i], "handler")) signal(SIGSEGV, on_fault);
        if (!strcmp(arguments[i], "fork")) {
            pid_t child = fork();
            if (!child) for (;;) pause();
            board[CHILD] = child;
        }
        if (!strcmp(arguments[i], "wait")) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGUSR2);
            pthread_sigmask(SIG_BLOCK, &set, NULL);
            signal(SIGCHLD, SIG_IGN);
            for (long kind = 0; kind < WAIT_KINDS; kind++) start(wait_again, (void *)kind);
        }
    }
    board[READY] = 1;
    for (;;) pause();
}
