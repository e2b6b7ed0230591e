/* One thread that waits in one way, again and again, and checks that no wait ends early or with EINTR and that errno is what
 * the wait made it.
 *
 *   lone KIND    says "ready PID", waits ROUNDS times, says "ok" or what went wrong, and stays until its input ends */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 400, ROUNDS = 6 };

static struct timespec in(clockid_t clock, long ms) {
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += ms % 1000 * 1000000;
    time.tv_sec += ms / 1000 + time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

/* 0, or the errno of a wait that did not end as it should. */
static int wait_for(const char *kind, int quiet, int pair) {
    struct timespec time = {0, WAIT_MS * 1000000};
    struct timeval micro = {0, WAIT_MS * 1000};
    struct pollfd fd = {quiet, POLLIN, 0};
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
#define ENDS(call) return (call) == 0 ? 0 : errno ? errno : -1
#define FAILS(call, with) return (call) < 0 && errno == (with) ? 0 : errno ? errno : -1
    if (!strcmp(kind, "nanosleep"))
        ENDS(nanosleep(&time, NULL));
    if (!strcmp(kind, "clock_nanosleep"))
        return clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    if (!strcmp(kind, "clock_nanosleep_until")) {
        struct timespec until = in(CLOCK_MONOTONIC, WAIT_MS);
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    if (!strcmp(kind, "poll"))
        ENDS(poll(&fd, 1, WAIT_MS));
    if (!strcmp(kind, "ppoll"))
        ENDS(ppoll(&fd, 1, &time, &usr2));
    if (!strcmp(kind, "select")) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(quiet, &set);
        ENDS(select(quiet + 1, &set, NULL, NULL, &micro));
    }
    if (!strcmp(kind, "epoll_wait") || !strcmp(kind, "epoll_pwait")) {
        static int epoll = -1;
        if (epoll < 0)
            epoll = epoll_create1(0);
        struct epoll_event event;
        ENDS(epoll_pwait(epoll, &event, 1, WAIT_MS, kind[6] == 'p' ? &usr2 : NULL));
    }
    if (!strcmp(kind, "sem_timedwait")) {
        static sem_t never;
        struct timespec until = in(CLOCK_REALTIME, WAIT_MS);
        FAILS(sem_timedwait(&never, &until), ETIMEDOUT);
    }
    if (!strcmp(kind, "futex")) {
        static int word;
        FAILS(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0), ETIMEDOUT);
    }
    if (!strcmp(kind, "recv")) {
        char byte;
        FAILS(recv(pair, &byte, 1, 0), EAGAIN);
    }
    if (!strcmp(kind, "sigtimedwait"))
        FAILS(sigtimedwait(&usr2, NULL, &time), EAGAIN);
    return -2;
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int quiet[2], pair[2];
    struct timeval timeout = {0, WAIT_MS * 1000};
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    if (count != 2 || pipe(quiet) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout))
        return 2;
    printf("ready %d\n", getpid());
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ms();
        errno = 0;
        int error = wait_for(arguments[1], quiet[0], pair[0]);
        double spent = now_ms() - start;
        /* The kernel's clocks tick in whole jiffies for socket timeouts. */
        if (error || spent < WAIT_MS - 5) {
            printf("%s: error %d after %.1f ms\n", arguments[1], error, spent);
            fflush(stdout);
            getchar();
            return 1;
        }
    }
    puts("ok");
    getchar();
    return 0;
}
