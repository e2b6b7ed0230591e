/* Threads that call the functions of a library as fast as they can and check every result.
 *
 *   open PATH   go THREADS   version (the newest any thread has seen)   stop (totals)
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FUNCTIONS = 8, THREADS = 64, BASE = 0x5a5a0000 };

static long (*steps[FUNCTIONS])(long);
static long (*total)(void);
static long (*of_this_thread)(void);
static pthread_t threads[THREADS];
static int thread_count;
static atomic_bool stopping;
static _Atomic long newest, wrong, backwards, miscounted, calls;

static void *hammer(void *argument) {
    long made = 0, last = 0;
    for (long x = (long)argument; !atomic_load_explicit(&stopping, memory_order_relaxed); x++, made++) {
        long version = steps[x % FUNCTIONS](x) - x * 7 - BASE;
        if (version < 1 || version > 0xffff)
            wrong++;
        /* A reload publishes all functions at once: a thread that has seen the new one never sees an old one again. */
        else if (version < last)
            backwards++;
        last = version;
        if (version > atomic_load_explicit(&newest, memory_order_relaxed))
            newest = version;
    }
    if (of_this_thread() != made)
        miscounted++;
    calls += made;
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready %d\n", getpid());
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "open ", 5)) {
            void *library = dlopen(line + 5, RTLD_NOW | RTLD_LOCAL);
            for (int i = 0; library && i < FUNCTIONS; i++) {
                char name[] = {'s', 't', 'e', 'p', '_', '0' + i, 0};
                steps[i] = (long (*)(long))dlsym(library, name);
            }
            if (library) {
                total = (long (*)(void))dlsym(library, "total");
                of_this_thread = (long (*)(void))dlsym(library, "of_this_thread");
            }
            printf(">%s\n", library ? "ok" : dlerror());
        } else if (!strncmp(line, "go ", 3)) {
            thread_count = atoi(line + 3);
            for (long i = 0; i < thread_count; i++)
                pthread_create(&threads[i], NULL, hammer, (void *)i);
            printf(">ok\n");
        } else if (!strcmp(line, "version")) {
            printf(">%ld\n", newest);
        } else {
            stopping = 1;
            for (int i = 0; i < thread_count; i++)
                pthread_join(threads[i], NULL);
            printf(">wrong %ld backwards %ld miscounted %ld lost %ld\n", wrong, backwards, miscounted, calls - total());
        }
    }
    return 0;
}
