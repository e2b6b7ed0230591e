/* A program with frames: each calls two functions of the library, which must belong to one version.
 *
 *   open PATH    go safe | plain    torn (how many frames mixed versions)    frames    idle (registers, then stays away)
 *   stop         cost (picoseconds of one call of the safe point with nothing due)
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void superreload_safepoint(void) __attribute__((weak));

static long (*alpha)(void), (*beta)(void);
static atomic_bool stopping, safe;
static _Atomic long torn, frames;
static pthread_t thread;

static void *run(void *argument) {
    (void)argument;
    while (!atomic_load(&stopping)) {
        if (atomic_load(&safe) && superreload_safepoint)
            superreload_safepoint();
        long first = alpha();
        usleep(2000);
        if (beta() != first * 10)
            torn++;
        frames++;
    }
    return NULL;
}

static void *idle(void *argument) {
    superreload_safepoint();
    while (!atomic_load(&stopping))
        usleep(1000);
    return argument;
}

static long cost(void) {
    enum { CALLS = 10000000 };
    struct timespec from, to;
    superreload_safepoint();
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < CALLS; i++)
        superreload_safepoint();
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((to.tv_sec - from.tv_sec) * 1000000000L + (to.tv_nsec - from.tv_nsec)) / (CALLS / 1000);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "open ", 5)) {
            void *library = dlopen(line + 5, RTLD_NOW | RTLD_LOCAL);
            if (library) {
                alpha = (long (*)(void))dlsym(library, "alpha");
                beta = (long (*)(void))dlsym(library, "beta");
            }
            printf(">%s\n", library ? "ok" : dlerror());
        } else if (!strncmp(line, "go ", 3)) {
            atomic_store(&safe, !strcmp(line + 3, "safe"));
            atomic_store(&stopping, false);
            torn = frames = 0;
            pthread_create(&thread, NULL, run, NULL);
            printf(">ok\n");
        } else if (!strcmp(line, "idle")) {
            atomic_store(&stopping, false);
            pthread_create(&thread, NULL, idle, NULL);
            usleep(20000);
            printf(">ok\n");
        } else if (!strcmp(line, "stop")) {
            atomic_store(&stopping, true);
            pthread_join(thread, NULL);
            printf(">ok\n");
        } else if (!strcmp(line, "torn"))
            printf(">%ld\n", torn);
        else if (!strcmp(line, "frames"))
            printf(">%ld\n", frames);
        else if (!strcmp(line, "cost"))
            printf(">%ld\n", superreload_safepoint ? cost() : -1);
        else
            printf(">error\n");
    }
    return 0;
}
