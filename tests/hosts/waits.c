/* Threads that wait in every way there is and check that no wait ends early or with EINTR.
 *
 *   open PATH   waits (how many have ended so far, the least of any kind)   stop (totals)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 40 };

static atomic_bool stopping;
static long (*version)(void);
static int quiet_pipe[2], epoll, socket_pair[2], fed_pipe[2];

static int wait_poll(void) {
    struct pollfd fd = {quiet_pipe[0], POLLIN, 0};
    return poll(&fd, 1, WAIT_MS);
}
static int wait_ppoll(void) {
    struct pollfd fd = {quiet_pipe[0], POLLIN, 0};
    struct timespec time = {0, WAIT_MS * 1000000};
    return ppoll(&fd, 1, &time, NULL);
}
static int wait_nanosleep(void) {
    struct timespec time = {0, WAIT_MS * 1000000};
    return nanosleep(&time, NULL);
}
static int wait_clock_nanosleep(void) {
    struct timespec time = {0, WAIT_MS * 1000000};
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    errno = error;
    return error ? -1 : 0;
}
static int wait_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet_pipe[0], &set);
    struct timeval time = {0, WAIT_MS * 1000};
    return select(quiet_pipe[0] + 1, &set, NULL, NULL, &time);
}
static int wait_epoll(void) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, WAIT_MS);
}
static int wait_sem(void) {
    static sem_t never;
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += WAIT_MS * 1000000;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return sem_timedwait(&never, &time) && errno == ETIMEDOUT ? 0 : -1;
}
static int wait_futex(void) {
    static int word;
    struct timespec time = {0, WAIT_MS * 1000000};
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0) && errno == ETIMEDOUT ? 0 : -1;
}
static int wait_cond(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += WAIT_MS * 1000000;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    int error;
    /* POSIX allows a condition to wake for no reason; a wait that ended early is measured below. */
    while ((error = pthread_cond_timedwait(&never, &lock, &time)) == 0) {}
    pthread_mutex_unlock(&lock);
    errno = error;
    return error == ETIMEDOUT ? 0 : -1;
}
static int wait_recv(void) {
    char byte;
    return recv(socket_pair[0], &byte, 1, 0) < 0 && errno == EAGAIN ? 0 : -1;
}
static int wait_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec time = {0, WAIT_MS * 1000000};
    return sigtimedwait(&set, NULL, &time) < 0 && errno == EAGAIN ? 0 : -1;
}
/* Ends when the feeder writes, every WAIT_MS. */
static int wait_read(void) {
    char byte;
    return read(fed_pipe[0], &byte, 1) < 0; /* 0 bytes: the feeder has stopped */
}

static struct kind {
    const char *name;
    int (*wait)(void);
    int timed;
    _Atomic long ended, failed, interrupted, early;
} kinds[] = {
    {"poll", wait_poll, 1, 0, 0, 0, 0},
    {"ppoll", wait_ppoll, 1, 0, 0, 0, 0},
    {"nanosleep", wait_nanosleep, 1, 0, 0, 0, 0},
    {"clock_nanosleep", wait_clock_nanosleep, 1, 0, 0, 0, 0},
    {"select", wait_select, 1, 0, 0, 0, 0},
    {"epoll_wait", wait_epoll, 1, 0, 0, 0, 0},
    {"sem_timedwait", wait_sem, 1, 0, 0, 0, 0},
    {"futex", wait_futex, 1, 0, 0, 0, 0},
    {"cond_timedwait", wait_cond, 1, 0, 0, 0, 0},
    {"recv", wait_recv, 1, 0, 0, 0, 0},
    {"sigtimedwait", wait_sigtimedwait, 1, 0, 0, 0, 0},
    {"read", wait_read, 0, 0, 0, 0, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void *run(void *argument) {
    struct kind *kind = argument;
    while (!stopping) {
        double start = now_ms();
        errno = 0;
        if (kind->wait() != 0) {
            kind->failed++;
            kind->interrupted += errno == EINTR;
        }
        /* The kernel's clocks tick in whole jiffies for socket timeouts. */
        kind->early += kind->timed && now_ms() - start < WAIT_MS - 0.5;
        kind->ended++;
    }
    return NULL;
}

static void *feed(void *argument) {
    (void)argument;
    while (!stopping) {
        usleep(WAIT_MS * 1000);
        if (write(fed_pipe[1], "x", 1) != 1)
            kinds[KINDS - 1].failed++;
    }
    close(fed_pipe[1]);
    return NULL;
}

static void *busy(void *argument) {
    (void)argument;
    while (!stopping) {
        version();
        usleep(100);
    }
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    pthread_t threads[KINDS + 2];
    int thread_count = 0;
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "open ", 5)) {
            void *library = dlopen(line + 5, RTLD_NOW | RTLD_LOCAL);
            if (library)
                version = (long (*)(void))dlsym(library, "alpha");
            struct timeval timeout = {0, WAIT_MS * 1000};
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGUSR2);
            pthread_sigmask(SIG_BLOCK, &set, NULL);
            int ready = !pipe(quiet_pipe) && !pipe(fed_pipe) && !socketpair(AF_UNIX, SOCK_STREAM, 0, socket_pair) &&
                        (epoll = epoll_create1(0)) >= 0 &&
                        !setsockopt(socket_pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
            if (library && ready) {
                for (; thread_count < KINDS; thread_count++)
                    pthread_create(&threads[thread_count], NULL, run, &kinds[thread_count]);
                pthread_create(&threads[thread_count++], NULL, feed, NULL);
                pthread_create(&threads[thread_count++], NULL, busy, NULL);
            }
            printf(">%s\n", library && ready ? "ok" : "error");
        } else if (!strcmp(line, "waits")) {
            long least = kinds[0].ended;
            for (int i = 1; i < KINDS; i++)
                least = kinds[i].ended < least ? (long)kinds[i].ended : least;
            printf(">%ld\n", least);
        } else {
            stopping = 1;
            for (int i = 0; i < thread_count; i++)
                pthread_join(threads[i], NULL);
            printf(">");
            for (int i = 0; i < KINDS; i++)
                if (kinds[i].failed || kinds[i].early)
                    printf("%s: %ld failed, %ld of them EINTR, %ld early; ", kinds[i].name, kinds[i].failed,
                           kinds[i].interrupted, kinds[i].early);
            printf("done\n");
        }
    }
    return 0;
}
