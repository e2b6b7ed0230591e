/* A program as the benches see it: it opens libraries, calls `value()` of the first one again and again, and tells each new
 * value with the time at which it was first returned. Commands come on standard input, one a line:
 *
 *   open PATH       >ok; where the program has a `value` of its own, that one counts as the first library's
 *   watch           starts calling `value` of the first library; from then on lines `value V NANOSECONDS` (CLOCK_MONOTONIC)
 *   cost N          nanoseconds for N calls of `value` through a pointer; `cost-last N` of the last library's
 *   clock           a thread that does nothing but read the clock; `gap` its longest gap since asked last, in nanoseconds
 *   busy N          N more threads that compute without end
 *   sleepers N      N more threads that wait without end
 *
 * It ends at the end of its input. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

long value(void) __attribute__((weak));

static long (*called)(void), (*last_called)(void);
static _Atomic long longest;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void *watch(void *unused) {
    prctl(PR_SET_TIMERSLACK, 1);
    const struct timespec pause = {0, 50000};
    for (long last = -1;;) {
        long found = called();
        if (found != last) {
            printf("value %ld %ld\n", found & 0xffff, now());
            last = found;
        }
        nanosleep(&pause, NULL);
    }
    return unused;
}

static void *read_clock(void *unused) {
    for (long before = now();;) {
        long after = now(), gap = after - before;
        if (gap > atomic_load_explicit(&longest, memory_order_relaxed))
            atomic_store_explicit(&longest, gap, memory_order_relaxed);
        before = after;
    }
    return unused;
}

static void *compute(void *unused) {
    for (volatile long sum = 0;;)
        sum = sum * 31 + 7;
    return unused;
}

static void *wait_without_end(void *unused) {
    for (;;)
        pause();
    return unused;
}

static void start(void *(*work)(void *), int count) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, work, NULL))
            abort();
    }
}

static long cost(long (*function)(void), long count) {
    long (*volatile kept)(void) = function;
    long begun = now();
    for (long i = 0; i < count; i++)
        kept();
    return now() - begun;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    called = value;
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "open ", 5)) {
            void *library = dlopen(line + 5, RTLD_NOW | RTLD_LOCAL);
            last_called = library ? (long (*)(void))dlsym(library, "value") : NULL;
            if (!called)
                called = last_called;
            printf(">%s\n", library ? "ok" : dlerror());
        } else if (!strcmp(line, "watch")) {
            printf(">ok\n");
            start(watch, 1);
        } else if (!strncmp(line, "cost ", 5)) {
            printf(">%ld\n", cost(called, atol(line + 5)));
        } else if (!strncmp(line, "cost-last ", 10)) {
            printf(">%ld\n", cost(last_called, atol(line + 10)));
        } else if (!strcmp(line, "clock")) {
            start(read_clock, 1);
            printf(">ok\n");
        } else if (!strcmp(line, "gap")) {
            printf(">%ld\n", atomic_exchange(&longest, 0));
        } else if (!strncmp(line, "busy ", 5)) {
            start(compute, atoi(line + 5));
            printf(">ok\n");
        } else if (!strncmp(line, "sleepers ", 9)) {
            start(wait_without_end, atoi(line + 9));
            printf(">ok\n");
        } else {
            printf(">error no command `%s`\n", line);
        }
    }
    return 0;
}
